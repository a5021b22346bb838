// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// adminAPI is the admin API of a running gateway, at the address that flags name.
type adminAPI struct {
	address, config, adapter string // the values of the flags
	json                     bool   // the answers are to be printed as they are

	// limit is how long a request may take; 0 for no limit: the gateway may wait for
	// locks in the storage, for WeChat or for an application.
	limit time.Duration
}

// addFlags adds the flags of the address, which are those of Caddy's own commands, and
// the one of the form in which answers are printed.
func (a *adminAPI) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&a.json, "json", false, "print the answer of the admin API")
	flags.StringVar(&a.address, "address", "", "address of the admin API; default: that of --config, or localhost:2019")
	flags.StringVarP(&a.config, "config", "c", "", "configuration file to read the address from")
	flags.StringVarP(&a.adapter, "adapter", "a", "", "adapter of the configuration file")
}

// ask makes one request, prints the answer if --json is given, and returns it. Names in
// it come from outside, so what a terminal would interpret is printed as an escape.
func ask[Answer any](cmd *cobra.Command, a *adminAPI, method, uri string, body []byte) (answer Answer, err error) {
	text, err := a.request(method, uri, body)
	var refused *refusal
	if errors.As(err, &refused) && json.Valid(refused.body) {
		text = refused.body
	}
	if a.json {
		_, _ = cmd.OutOrStdout().Write(plainJSON(text))
	}
	if err != nil {
		return answer, err
	}
	if answer, err = read[Answer](text); err != nil {
		return answer, fmt.Errorf("reading the gateway's answer: %w\nis %s the admin API of a gateway? name the right address with --address, or the configuration file with --config", err, a.address)
	}
	return answer, nil
}

// read decodes an answer. One without any of the members that it must have is an error:
// other servers answer each path with status 200 as well, as WeChat does and the gateway's
// own side for applications, and what they say must not be taken for a gateway that is well.
func read[Answer any](text []byte) (answer Answer, err error) {
	if err := json.Unmarshal(text, &answer); err != nil {
		return answer, err
	}
	var told, must map[string]json.RawMessage
	whole, _ := json.Marshal(answer)
	_, _ = json.Unmarshal(text, &told), json.Unmarshal(whole, &must) // an object each, or told is null
	for member := range must {
		if _, has := told[member]; has {
			return answer, nil
		}
	}
	return answer, errors.New("it is another server's")
}

// request makes one request and returns the body of the answer. If the gateway answers
// with an error, that is the error, a *refusal.
func (a *adminAPI) request(method, uri string, body []byte) ([]byte, error) {
	address, err := caddycmd.DetermineAdminAPIAddress(a.address, nil, a.config, a.adapter)
	if err != nil {
		return nil, err
	}
	a.address = address // for the next request, which need not read the file again
	if a.limit == 0 {
		return exchange(address, method, uri, body)
	}
	type result struct {
		answer []byte
		err    error
	}
	done := make(chan result, 1)
	go func() { // Caddy's function cannot be interrupted; the process ends soon
		answer, err := exchange(address, method, uri, body)
		done <- result{answer, err}
	}()
	select {
	case r := <-done:
		return r.answer, r.err
	case <-time.After(a.limit):
		return nil, fmt.Errorf("the admin API at %s has not answered within %s\nis it the one of a gateway, and does its machine answer otherwise? look at the gateway's log", address, a.limit)
	}
}

// exchange sends a request to the admin API at address and reads the answer.
func exchange(address, method, uri string, body []byte) ([]byte, error) {
	var content io.Reader // nil, and not an empty reader: Caddy would announce JSON
	if body != nil {
		content = bytes.NewReader(body)
	}
	response, err := caddycmd.AdminAPIRequest(address, method, uri, nil, content)
	if err != nil {
		return nil, explain(err, address)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the gateway's answer: %w", err)
	}
	return answer, nil
}

// refusal is an error that was answered at the address of the admin API.
type refusal struct {
	status int    // of HTTP
	own    bool   // a gateway says so, and not another server
	body   []byte // as it was answered
	text   string // what is wrong, and the remedy on a line of its own
}

// Error returns what to tell an operator.
func (r *refusal) Error() string { return r.text }

// explain returns what to tell for an error of AdminAPIRequest, which has only one
// type of error.
func explain(err error, address string) error {
	if cause, unreached := strings.CutPrefix(err.Error(), "performing request: "); unreached {
		return fmt.Errorf("is the gateway running? its admin API is not at %s: %s\nname the right address with --address, or the configuration file with --config", address, cause)
	}
	_, answer, answered := strings.Cut(err.Error(), "caddy responded with error: HTTP ")
	if !answered {
		return err
	}
	status, body, _ := strings.Cut(answer, ": ")
	refused := &refusal{body: []byte(body)}
	refused.status, _ = strconv.Atoi(status)
	var told operate.Error
	switch json.Unmarshal(refused.body, &told); {
	case told.Text == "":
		refused.text = fmt.Sprintf("%s\nis %s the admin API of a gateway of this version?", strings.TrimSpace(err.Error()), address)
	case told.Remedy == "":
		refused.text = "the gateway answers: " + told.Text
	default:
		refused.own, refused.text = true, told.Text+"\n"+told.Remedy
	}
	refused.text = plainLines(refused.text)
	return refused
}
