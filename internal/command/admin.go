// SPDX-License-Identifier: Apache-2.0

package command

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// adminAPI is the admin API of a running gateway, at the address that flags name.
type adminAPI struct {
	address, config, adapter string // the values of the flags
}

// addFlags adds the flags of the address, which are those of Caddy's own commands.
func (a *adminAPI) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&a.address, "address", "", "address of the admin API; default: that of --config, or localhost:2019")
	flags.StringVarP(&a.config, "config", "c", "", "configuration file to read the address from")
	flags.StringVarP(&a.adapter, "adapter", "a", "", "adapter of the configuration file")
}

// request makes one request and returns the body of the answer. It has no limit of
// time: the gateway may wait for locks in the storage, for WeChat or for an
// application. If the gateway answers with an error, that is the error, with its
// remedy on a line of its own.
func (a *adminAPI) request(method, uri string) ([]byte, error) {
	address, err := caddycmd.DetermineAdminAPIAddress(a.address, nil, a.config, a.adapter)
	if err != nil {
		return nil, err
	}
	a.address = address // for the next request, which need not read the file again
	response, err := caddycmd.AdminAPIRequest(address, method, uri, nil, nil)
	if err != nil {
		return nil, explain(err, address)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the gateway's answer: %w", err)
	}
	return body, nil
}

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
	_, body, _ := strings.Cut(answer, ": ")
	var told operate.Error
	switch json.Unmarshal([]byte(body), &told); {
	case told.Text == "":
		return fmt.Errorf("%s\nis %s the admin API of a gateway of this version?", strings.TrimSpace(err.Error()), address)
	case told.Remedy == "":
		return fmt.Errorf("the gateway answers: %s", told.Text)
	}
	return fmt.Errorf("%s\n%s", told.Text, told.Remedy)
}
