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

// Write answers an application's call with the problem that err is, in WeChat's
// shape, and counts it. What stands behind the problem is for the log alone.
func Write(w http.ResponseWriter, r *http.Request, log *zap.Logger, err error) {
	problem := Of(err)
	metrics.Calls.WithLabelValues(problem.Slug).Inc()
	level := zapcore.DebugLevel
	if problem.Status >= http.StatusInternalServerError {
		level = zapcore.WarnLevel
	}
	message := "call refused: " + problem.Slug
	entry := log.Check(level, message)
	if entry == nil { // it has just been said
		entry = log.Check(zapcore.DebugLevel, message)
	}
	if entry != nil {
		entry.Write(zap.String("path", r.URL.Path), zap.String("slug", problem.Slug), zap.Error(err))
	}
	w.Header().Set(openapi.GatewayHeader, problem.Slug)
	WriteJSON(w, problem.Status, JSON(wechatError{problem.Errcode, problem.Text + " (gateway)"}))
}

// WriteRefusal answers an application's call with a refusal of WeChat's own.
func WriteRefusal(w http.ResponseWriter, refusal *openapi.Refusal) {
	WriteJSON(w, http.StatusOK, JSON(wechatError{refusal.Code, refusal.Message}))
}

// wechatError is what WeChat answers to a call that it refuses.
type wechatError struct {
	Errcode int    `json:"errcode"`
	Errmsg  string `json:"errmsg"`
}

// JSON returns an answer as JSON, in which & stays & as in WeChat's.
func JSON(answer any) []byte {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(answer) // structs of texts and numbers cannot fail
	return bytes.TrimSuffix(body.Bytes(), []byte("\n"))
}

// WriteJSON writes a whole answer that no cache may keep.
func WriteJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
