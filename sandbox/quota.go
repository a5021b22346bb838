// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"maps"
	"strings"
	"time"
)

// clearsPerMonth is how often an account may have its counters cleared,
// pathClearsPerMonth how often besides that the counter of one path.
const (
	clearsPerMonth     = 10
	pathClearsPerMonth = 50
)

// usageKey counts a subject's calls to a path on one day of the sandbox's clock.
type usageKey struct{ appid, path, day string }

// SetQuota limits the daily calls of every subject to a path; negative removes the limit.
func (s *Sandbox) SetQuota(path string, daily int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if daily < 0 {
		delete(s.cfg.Quota, path)
		return
	}
	s.cfg.Quota[path] = daily
}

// spendQuota counts the call against its path's daily limit, if there is one.
func (s *Sandbox) spendQuota(x *exchange) error {
	limit, limited := s.cfg.Quota[x.call.Path]
	if !limited {
		return nil
	}
	key := s.usageKey(x, x.call.Path)
	if s.usage[key] >= limit {
		return refuse(45009, "reach max api daily quota limit")
	}
	s.usage[key]++
	return nil
}

func (s *Sandbox) usageKey(x *exchange, path string) usageKey {
	appid := s.cfg.Component
	if x.token != nil {
		appid = x.token.appid
	}
	return usageKey{appid, path, dayOf(s.now())}
}

// dayOf names the day by whose end quotas are fresh again.
func dayOf(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// clearQuota is /cgi-bin/clear_quota: token and appid must belong together.
func (s *Sandbox) clearQuota(x *exchange) (any, error) {
	var body componentBody
	if err := x.decode(&body); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if body.QuotaAppID != x.token.appid {
		return nil, refuse(40013, "invalid appid")
	}
	return s.clear(body.QuotaAppID)
}

// clearQuotaBySecret is /cgi-bin/component/clear_quota/v2.
func (s *Sandbox) clearQuotaBySecret(x *exchange) (any, error) {
	body, err := s.componentBody(x)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.secretError(body.QuotaSecret); err != nil {
		return nil, err
	}
	appid := or(body.QuotaAppID, s.cfg.Component)
	if account := s.accounts[appid]; appid != s.cfg.Component && (account == nil || !account.authorized) {
		return nil, refuse(61003, "component is not authorized by this account")
	}
	return s.clear(appid)
}

func (s *Sandbox) clear(appid string) (any, error) {
	return s.clearWhere("all of "+appid, clearsPerMonth, func(key usageKey) bool { return key.appid == appid })
}

// clearQuotaOfPath is /cgi-bin/openapi/quota/clear, for whom the token belongs to.
func (s *Sandbox) clearQuotaOfPath(x *exchange) (any, error) {
	var body struct {
		Path string `json:"cgi_path"`
	}
	if err := x.decode(&body); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(body.Path, "/") {
		return nil, refuse(76003, "cgi_path not found, please check")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	appid := x.token.appid
	return s.clearWhere("paths of "+appid, pathClearsPerMonth, func(key usageKey) bool { return key.appid == appid && key.path == body.Path })
}

// clearWhere forgets usage, within a monthly budget.
func (s *Sandbox) clearWhere(budget string, perMonth int, forget func(usageKey) bool) (any, error) {
	month := budget + " " + s.now().UTC().Format("2006-01")
	if s.clears[month] >= perMonth {
		return nil, refuse(48006, "forbid to clear quota because of reaching the limit")
	}
	s.clears[month]++
	maps.DeleteFunc(s.usage, func(key usageKey, _ int) bool { return forget(key) })
	return okay(), nil
}

// quotaGet is /cgi-bin/openapi/quota/get.
func (s *Sandbox) quotaGet(x *exchange) (any, error) {
	var body struct {
		Path string `json:"cgi_path"`
	}
	if err := x.decode(&body); err != nil {
		return nil, err
	}
	switch {
	case strings.HasPrefix(body.Path, "/sns/"):
		return nil, refuse(76022, "could not use this cgi_path, no permission")
	case !strings.HasPrefix(body.Path, "/"):
		return nil, refuse(76003, "cgi_path not found, please check")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	limit, limited := s.cfg.Quota[body.Path]
	if !limited {
		limit = 100_000_000
	}
	used := s.usage[s.usageKey(x, body.Path)]
	return object{
		"errcode": 0, "errmsg": "ok",
		"quota":                object{"daily_limit": limit, "used": used, "remain": limit - used},
		"rate_limit":           object{"call_count": 0, "refresh_second": 0},
		"component_rate_limit": object{"call_count": 0, "refresh_second": 0},
	}, nil
}

// ridGet is /cgi-bin/openapi/rid/get: it shows a refused call of the same
// subject, with the token it carried.
func (s *Sandbox) ridGet(x *exchange) (any, error) {
	var body struct {
		RID string `json:"rid"`
	}
	if err := x.decode(&body); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, call := range s.calls.list() {
		if body.RID == "" || call.RID != body.RID {
			continue
		}
		if call.TokenAppID != "" && call.TokenAppID != x.token.appid {
			return nil, refuse(76002, "rid does not belong to this account")
		}
		return object{"errcode": 0, "errmsg": "ok", "request": object{
			"invoke_time":   call.Time.Unix(),
			"cost_in_ms":    1,
			"request_url":   call.RawQuery,
			"request_body":  call.body,
			"response_body": "",
			"client_ip":     call.ClientIP,
		}}, nil
	}
	return nil, refuse(76001, "rid not found")
}
