// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechat/caddy-wechat/internal/check"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/gateway"
	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// Rule allows calls with a certain method and path.
type Rule = policy.Rule

// Client is an application that may call the gateway.
type Client struct {
	// Secrets are what the client sends in the place of WeChat's AppSecret: at
	// least 32 characters, or sha256:<hex> of such a text. Two may be given
	// while a client changes from one to the other; both are valid. Required.
	Secrets []string `json:"secrets,omitempty"`

	// Component is the component_appid of the platform that the client uses.
	// Default: the only one that is configured.
	Component string `json:"component,omitempty"`

	// Authorizers are the appids of the accounts for which the client may act,
	// or * for all accounts that have authorized the component. Default: none.
	Authorizers []string `json:"authorizers,omitempty"`

	// Allow are the paths that the client may call: a path, or a prefix
	// followed by /*, each for one method or for all. Default: every
	// authorizer-level path, and with component_api every component-level path.
	Allow []Rule `json:"allow,omitempty"`

	// ComponentAPI allows the component-level paths. Default: false.
	ComponentAPI bool `json:"component_api,omitempty"`

	// From are the addresses from which the client may call: addresses, or
	// ranges in CIDR form. With proxies in front, the address is the one that
	// the trusted_proxies of Caddy's server yield. Default: all addresses.
	From []string `json:"from,omitempty"`

	// Deliver are the addresses to which messages of the client's accounts and
	// authorisation events are sent, at most 64. All that want a message or an event
	// get it at once. Default: none are sent.
	Deliver Deliveries `json:"deliver,omitempty"`
}

// applications are the clients of one configuration. They do not change after
// Provision.
type applications struct {
	clients   *gateway.Clients
	receivers []delivery.Receiver // in the order of their names
}

// newApplications returns the clients of a configuration, with their secrets
// resolved. They are made in the order of their names, so that of several
// errors the same one is always reported. The error names the client and never
// a secret.
func newApplications(ctx caddy.Context, config map[string]*Client, components map[string]*component, resolve resolver) (*applications, error) {
	apps := &applications{clients: gateway.NewClients()}
	for _, id := range slices.Sorted(maps.Keys(config)) {
		client, targets, err := config[id].provision(ctx, id, components, resolve.within("client", id))
		if err != nil {
			return nil, fmt.Errorf("client %s: %w", id, err)
		}
		if err := apps.clients.Add(client); err != nil {
			return nil, err
		}
		if len(targets) > 0 {
			apps.receivers = append(apps.receivers, delivery.Receiver{Client: client.ID, Component: client.Component, Rights: client.Rights, Targets: targets})
		}
	}
	return apps, nil
}

// provision returns the client, and its targets for deliveries.
func (c *Client) provision(ctx caddy.Context, id string, components map[string]*component, resolve resolver) (*gateway.Client, []*delivery.Target, error) {
	if c == nil {
		c = new(Client)
	}
	if err := check.ClientID(id); err != nil {
		return nil, nil, err
	}
	under, err := c.under(components)
	if err != nil {
		return nil, nil, err
	}
	rights, err := c.rights()
	if err != nil {
		return nil, nil, err
	}
	targets, err := c.Deliver.provision(ctx, resolve)
	if err != nil {
		return nil, nil, err
	}
	for _, target := range targets {
		target.Component, target.Client = under.appid, id
	}
	secrets, err := resolve.secrets("secret", c.Secrets, check.ClientSecret)
	if err != nil {
		return nil, nil, err
	}
	client, err := gateway.NewClient(id, under.appid, rights, secrets, under.appSecrets)
	if err != nil {
		return nil, nil, err
	}
	for _, target := range targets {
		if target.Platform != nil {
			target.Platform.Code = client.IssueCode
		}
	}
	for _, text := range c.From {
		prefix, err := check.ParseFrom(text)
		if err != nil {
			return nil, nil, fmt.Errorf("from: %w", err)
		}
		client.From = append(client.From, prefix)
	}
	return client, targets, nil
}

// cleanup closes the idle connections to the targets. Deliveries in progress go on,
// and their connections are closed when they have ended.
func (a *applications) cleanup() {
	for _, c := range a.receivers {
		for _, target := range c.Targets {
			_ = target.Transport.(deliverTransport).Cleanup() // never fails
		}
	}
}

// under returns the component that the client uses.
func (c *Client) under(components map[string]*component) (*component, error) {
	known := strings.Join(slices.Sorted(maps.Keys(components)), ", ")
	_, found, ok := subject.Named(components, c.Component)
	switch {
	case ok:
		return found, nil
	case c.Component == "":
		return nil, fmt.Errorf("component is missing, name one of: %s", known)
	}
	return nil, fmt.Errorf("component %s is not configured, only: %s", check.Quote(c.Component), known)
}

// rights returns what the client may do. It checks the appids and the rules.
func (c *Client) rights() (policy.Rights, error) {
	rights := policy.Rights{Authorizers: make(map[string]struct{}), Rules: c.Allow, ComponentAPI: c.ComponentAPI}
	for _, appid := range c.Authorizers {
		if appid == "*" {
			rights.AllAuthorizers = true
			continue
		}
		if err := check.AppID(appid); err != nil {
			return rights, fmt.Errorf("authorizers: %w", err)
		}
		rights.Authorizers[appid] = struct{}{}
	}
	if rights.AllAuthorizers && len(c.Authorizers) > 1 {
		return rights, errors.New("authorizers: * stands for all, name no others beside it")
	}
	for _, rule := range c.Allow {
		if err := rule.Validate(); err != nil {
			return rights, fmt.Errorf("allow: %w", err)
		}
	}
	return rights, nil
}
