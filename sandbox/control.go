// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"time"
)

// controlPrefix is where the levers are. The API has nothing there.
const controlPrefix = "/_sandbox/"

// subject is the body of levers that concern one account, or the component.
type subject struct {
	AppID string `json:"appid"`
}

// controlMux mounts the levers; doc.go lists them.
func (s *Sandbox) controlMux() http.Handler {
	mux := http.NewServeMux()
	show := func(path string, answer func(*http.Request) any) {
		mux.HandleFunc("GET "+controlPrefix+path, func(w http.ResponseWriter, r *http.Request) {
			reply(w, http.StatusOK, answer(r))
		})
	}
	show("{$}", func(*http.Request) any { return s.state() })
	show("calls", func(*http.Request) any { return s.Calls() })
	show("pushes", func(*http.Request) any { return s.Pushes() })
	show("sent", func(*http.Request) any { return s.SentMessages() })
	show("credentials", func(*http.Request) any { return s.Credentials() })
	show("switches", func(*http.Request) any { return s.switches() })
	show("token", func(r *http.Request) any {
		return object{"token": s.ValidToken(r.FormValue("kind"), r.FormValue("appid"))}
	})
	show("count", func(r *http.Request) any {
		if token := r.FormValue("token"); token != "" {
			return object{"count": s.CountToken(r.FormValue("path"), token)}
		}
		return object{"count": s.Count(r.FormValue("path"))}
	})
	mux.HandleFunc("GET "+agreePath, s.serveAgree)
	s.mountPushLevers(mux)
	s.mountTokenLevers(mux)
	s.mountSettings(mux)
	return mux
}

// mountPushLevers mounts what makes the sandbox push.
func (s *Sandbox) mountPushLevers(mux *http.ServeMux) {
	lever(mux, "POST ticket", func(ctx context.Context, _ struct{}) (any, error) { return nil, s.PushTicket(ctx) })
	lever(mux, "POST stop-tickets", func(context.Context, struct{}) (any, error) { s.StopTickets(); return nil, nil })
	lever(mux, "POST account", func(_ context.Context, a Account) (any, error) { return nil, s.AddAccount(a) })
	lever(mux, "POST authorize", func(ctx context.Context, of subject) (any, error) {
		code, err := s.Authorize(ctx, of.AppID)
		return object{"code": code}, err
	})
	lever(mux, "POST authorized", func(ctx context.Context, of subject) (any, error) {
		return nil, s.PushAuthorized(ctx, of.AppID)
	})
	lever(mux, "POST update", func(ctx context.Context, of subject) (any, error) {
		code, err := s.UpdateAuthorized(ctx, of.AppID)
		return object{"code": code}, err
	})
	lever(mux, "POST revoke", func(ctx context.Context, of subject) (any, error) { return nil, s.Revoke(ctx, of.AppID) })
	lever(mux, "POST event", func(ctx context.Context, e struct {
		InfoType string `json:"info_type"`
		Inner    string `json:"inner"`
	}) (any, error) {
		return nil, s.PushEvent(ctx, e.InfoType, e.Inner)
	})
	lever(mux, "POST message", func(ctx context.Context, m messageBody) (any, error) {
		p, err := m.push(s)
		if err != nil {
			return nil, err
		}
		answer, err := s.Push(ctx, p)
		return object{"reply": answer.Reply, "shown": answer.Shown, "answer": answer}, err
	})
	lever(mux, "POST publish-test", func(ctx context.Context, with struct{ Group int }) (any, error) {
		steps, err := s.PublishTest(ctx, with.Group)
		return publishAnswer(steps), err
	})
	lever(mux, "POST push", func(ctx context.Context, p struct {
		Push
		Age duration `json:"age"`
	}) (any, error) {
		p.Push.Age = time.Duration(p.Age)
		answer, err := s.Push(ctx, p.Push)
		return object{"answer": answer}, err
	})
}

// messageBody is the body of the lever message: inner, or a kind and content.
type messageBody struct {
	AppID   string `json:"appid"`
	OpenID  string `json:"openid"`
	Inner   string `json:"inner"`
	Kind    string `json:"kind"`
	Content string `json:"content"`
}

func (m messageBody) push(s *Sandbox) (Push, error) {
	switch {
	case m.Kind == "" && m.Content == "":
		return s.messageOf(m.AppID, m.OpenID, "", m.Inner), nil
	case m.Inner != "":
		return Push{}, errors.New("making a message: inner stands alone, without kind and content")
	}
	return s.Message(m.AppID, m.OpenID, or(m.Kind, "text"), m.Content)
}

// mountTokenLevers mounts what happens to credentials.
func (s *Sandbox) mountTokenLevers(mux *http.ServeMux) {
	lever(mux, "POST expire", func(_ context.Context, of subject) (any, error) { s.ExpireTokens(of.AppID); return nil, nil })
	lever(mux, "POST kill", func(_ context.Context, of subject) (any, error) { s.KillTokens(of.AppID); return nil, nil })
	lever(mux, "POST rotate-token", func(_ context.Context, of subject) (any, error) {
		_, err := s.RotateToken(of.AppID)
		return nil, err
	})
	lever(mux, "POST rotate-refresh", func(_ context.Context, of subject) (any, error) {
		_, err := s.RotateRefreshToken(of.AppID)
		return nil, err
	})
	lever(mux, "POST rotate-secret", func(_ context.Context, to struct{ Secret string }) (any, error) {
		return object{"app_secret": s.RotateAppSecret(to.Secret)}, nil
	})
	lever(mux, "POST freeze-secret", func(_ context.Context, of struct {
		AppID  string
		Frozen bool
	}) (any, error) {
		return nil, s.FreezeAppSecret(of.AppID, of.Frozen)
	})
	lever(mux, "POST rotate-keys", func(_ context.Context, to struct {
		Token string `json:"token"`
		Key   string `json:"encoding_aes_key"`
	}) (any, error) {
		err := s.RotatePushKeys(to.Token, to.Key)
		_, token, key := s.Keys()
		return object{"token": token, "encoding_aes_key": key}, err
	})
	lever(mux, "POST usercode", func(_ context.Context, of struct{ AppID, User string }) (any, error) {
		return object{"code": s.NewUserCode(of.AppID, of.User), "openid": s.OpenID(of.AppID, of.User)}, nil
	})
}

// mountSettings mounts clock, faults, limits and switches.
func (s *Sandbox) mountSettings(mux *http.ServeMux) {
	lever(mux, "POST advance", func(_ context.Context, to struct{ By duration }) (any, error) {
		s.AdvanceClock(time.Duration(to.By))
		return nil, nil
	})
	lever(mux, "POST fault", func(_ context.Context, f struct {
		Fault
		Latency duration `json:"latency"`
	}) (any, error) {
		f.Fault.Latency = time.Duration(f.Latency)
		s.Inject(f.Fault)
		return nil, nil
	})
	lever(mux, "DELETE fault", func(context.Context, struct{}) (any, error) { s.ClearFaults(); return nil, nil })
	lever(mux, "DELETE calls", func(context.Context, struct{}) (any, error) { s.ResetCounts(); return nil, nil })
	lever(mux, "POST quota", func(_ context.Context, q struct {
		Path  string
		Daily int
	}) (any, error) {
		s.SetQuota(q.Path, q.Daily)
		return nil, nil
	})
	lever(mux, "POST ips", func(_ context.Context, to struct{ Allow []string }) (any, error) {
		s.SetAllowIPs(to.Allow...)
		return nil, nil
	})
	lever(mux, "POST urls", func(_ context.Context, to struct {
		Events, Messages string
		LaunchDomain     *string `json:"launch_domain"`
	}) (any, error) {
		s.SetURLs(to.Events, to.Messages)
		if to.LaunchDomain != nil {
			s.SetLaunchDomain(*to.LaunchDomain)
		}
		return nil, nil
	})
	lever(mux, "POST switches", func(_ context.Context, to Switches) (any, error) { s.SetSwitches(to); return nil, nil })
}

// lever mounts "METHOD name": the JSON body becomes a T, an empty one its zero;
// the answer is JSON. A lever that could not do its work answers 409 with
// {"error":…}, beside what it has to say.
func lever[T any](mux *http.ServeMux, pattern string, pull func(context.Context, T) (any, error)) {
	var method, name string
	_, _ = fmt.Sscan(pattern, &method, &name)
	mux.HandleFunc(method+" "+controlPrefix+name, func(w http.ResponseWriter, r *http.Request) {
		var to T
		decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxJSON))
		decoder.DisallowUnknownFields() // a mistyped lever must not pull nothing in silence
		if err := decoder.Decode(&to); err != nil && !errors.Is(err, io.EOF) {
			reply(w, http.StatusBadRequest, object{"error": "reading the body: " + err.Error()})
			return
		}
		answer, err := pull(r.Context(), to)
		if answer == nil {
			answer = object{}
		}
		if err != nil {
			answer.(object)["error"] = err.Error()
			reply(w, http.StatusConflict, answer)
			return
		}
		reply(w, http.StatusOK, answer)
	})
}

func reply(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, marshal(answer)+"\n")
}

// duration is written "90s" or "2h" in JSON.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = duration(parsed)
	return err
}

// state is the overview that GET /_sandbox/ shows; no credential is in it.
func (s *Sandbox) state() any {
	type shown struct {
		Account
		Authorized      bool `json:"authorized"`
		TokenGeneration int  `json:"token_generation"`
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	accounts := []shown{}
	for _, appid := range s.order {
		a := s.accounts[appid]
		generation := 0
		if a.line.newest != nil {
			generation = a.line.newest.generation
		}
		accounts = append(accounts, shown{a.Account, a.authorized, generation})
	}
	return object{
		"component":     s.cfg.Component,
		"now":           s.now().Format(time.RFC3339),
		"events_url":    s.cfg.EventsURL,
		"messages_url":  s.cfg.MessagesURL,
		"launch_domain": s.cfg.LaunchDomain,
		"tickets":       len(s.tickets),
		"stopped":       s.stopped,
		"faults":        len(s.faults),
		"accounts":      accounts,
		"counts":        maps.Clone(s.count),
		"switches":      s.cfg.Switches,
	}
}

// serveAgree serves the link of the authorise page.
func (s *Sandbox) serveAgree(w http.ResponseWriter, r *http.Request) {
	x := s.newExchange(r)
	answer, err := s.agree(x)
	s.render(x, answer, err).send(w)
}
