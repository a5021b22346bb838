// SPDX-License-Identifier: Apache-2.0

package problem

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
)

// Write answers a call of an application with the problem of err, see Of, and
// counts it in the metrics. The caller must not have written anything of an
// answer yet. The whole error, with its cause, is written to the log only: as a
// warning if the status is 500 or more, else for debugging. The log has the
// path of the request but not its query, which may contain a token.
func Write(w http.ResponseWriter, r *http.Request, log *zap.Logger, err error) {
	problem := Of(err)
	metrics.Calls.WithLabelValues(problem.Slug).Inc()
	level := zapcore.DebugLevel
	if problem.Status >= http.StatusInternalServerError {
		level = zapcore.WarnLevel
	}
	message := "call refused: " + problem.Slug
	if entry := log.Check(level, message); entry != nil {
		entry.Write(zap.String("path", r.URL.Path), zap.String("slug", problem.Slug), zap.Error(err))
	}
	w.Header().Set(openapi.GatewayHeader, problem.Slug)
	WriteJSON(w, problem.Status, JSON(wechatError{problem.Errcode, problem.Text + " (gateway)"}))
}

// WriteRefusal answers a call of an application with an error of WeChat,
// errcode and errmsg, as if WeChat had answered the call itself. It is for
// calls that the gateway makes at WeChat in the place of the application.
func WriteRefusal(w http.ResponseWriter, refusal *openapi.Refusal) {
	WriteJSON(w, http.StatusOK, JSON(wechatError{refusal.Code, refusal.Message}))
}

// wechatError is WeChat's answer to a call that it rejects.
type wechatError struct {
	Errcode int    `json:"errcode"`
	Errmsg  string `json:"errmsg"`
}

// JSON returns an answer as JSON. The characters &, < and > are not escaped, as
// in WeChat's answers. The answer must be of a type that encoding/json can
// always encode.
func JSON(answer any) []byte {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(answer) // structs of texts and numbers never fail
	return bytes.TrimSuffix(body.Bytes(), []byte("\n"))
}

// WriteJSON writes a whole answer with status and body. Caches must not store
// it, because it may contain a token. Errors of writing are ignored: the caller
// of the gateway has gone then.
func WriteJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
