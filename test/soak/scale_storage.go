// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	storageredis "github.com/pberkel/caddy-storage-redis"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

func appid(n int) string { return fmt.Sprintf("wx%016x", n+1) }

// tokenOf is as long as those that WeChat has been seen to give out.
func tokenOf(appid string) string {
	token := "99_REALTOKEN-" + appid + "-"
	return token + strings.Repeat("x", 157-len(token))
}

// seal returns a ticket, and with it the records of all authorizers, sealed as
// the gateway seals them: key in storage → file.
func seal(ctx context.Context) (ticket, all map[string][]byte, err error) {
	ring, err := vault.NewKeyring(vault.DeriveKey(secret.New(sandbox.DefaultAppSecret), sandbox.DefaultComponent))
	if err != nil {
		return nil, nil, err
	}
	memory := new(vaulttest.Memory)
	v := vault.New(func() vault.Storage { return memory }, func(string) *vault.Keyring { return ring })
	now := time.Now()
	_, err = v.StoreTicket(ctx, sandbox.DefaultComponent, vault.Ticket{Value: secret.New("ticket@@@REALTICKET"), CreateTime: now, Received: now})
	if err != nil {
		return nil, nil, err
	}
	ticket = memory.Files()
	for n := range many {
		_, err := v.Store(ctx, subject.Of(sandbox.DefaultComponent, appid(n)), vault.Record{
			Token: secret.New(tokenOf(appid(n))), Obtained: now, Expires: now.Add(24 * time.Hour),
			Refresh: secret.New("refreshtoken@@@REALREFRESH" + appid(n)), EventTime: now, Functions: []int{1, 2, 3, 4, 7, 11, 15},
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return ticket, memory.Files(), nil
}

// filledFiles writes files without a sync of each, which would take minutes.
func filledFiles(folder string, sealed map[string][]byte) (*files, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	f, err := newFiles(folder)
	if err != nil {
		return nil, err
	}
	for key, file := range sealed {
		path := filepath.Join(f.disk, "storage", filepath.FromSlash(key))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, file, 0o600)); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// fill stores files in a database as the gateway's storage module does.
func (r *redis) fill(ctx context.Context, database int, sealed map[string][]byte) error {
	within, cancel := caddy.NewContext(caddy.Context{Context: ctx})
	defer cancel()
	storage := storageredis.New()
	storage.Address, storage.DB = []string{r.address}, storageredis.DBIndex(strconv.Itoa(database))
	if err := storage.Provision(within); err != nil {
		return err
	}
	defer func() { _ = storage.Cleanup() }()
	for key, file := range sealed {
		if err := storage.Store(ctx, key, file); err != nil {
			return err
		}
	}
	return nil
}
