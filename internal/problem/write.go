// SPDX-License-Identifier: Apache-2.0

package problem

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-wechat/caddy-wechat/internal/logging"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
)

// About says whose call is answered, for the log.
type About struct {
	Client string // its name, or none
	AppID  string // of the account, else of the component; "" if that is not known
}

// Write answers a call of an application with the problem of err, see Of, and
// returns how many bytes the body of the answer has. The caller must not have
// written anything of an answer yet. The whole error, with its cause, is written to the log only: as a
// warning if the status is 500 or more, else for debugging. The log has the
// path of the request, without gateway tokens, but not its query, which may contain a
// token.
func Write(w http.ResponseWriter, r *http.Request, log *zap.Logger, err error, about About) (length int) {
	problem := Of(err)
	level := zapcore.DebugLevel
	if problem.Status >= http.StatusInternalServerError {
		level = zapcore.WarnLevel
	}
	message := "call refused: " + problem.Slug
	if entry := log.Check(level, message); entry != nil {
		entry.Write(zap.String("path", logging.RedactAddress(r.URL.Path)), zap.String("slug", problem.Slug), zap.String("client", about.Client), zap.String("appid", about.AppID), zap.Error(err))
	}
	w.Header().Set(openapi.GatewayHeader, problem.Slug)
	body := JSON(wechatError{problem.Errcode, problem.Text + " (gateway)"})
	WriteJSON(w, problem.Status, body)
	return len(body)
}

// WriteRefusal answers a call of an application with an error of WeChat,
// errcode and errmsg, as if WeChat had answered the call itself. It is for
// calls that the gateway makes at WeChat in the place of the application. It returns
// how many bytes the body has.
func WriteRefusal(w http.ResponseWriter, refusal *openapi.Refusal) (length int) {
	body := JSON(wechatError{refusal.Code, refusal.Message})
	WriteJSON(w, http.StatusOK, body)
	return len(body)
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
