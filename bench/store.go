// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// What the gateways are configured with.
const (
	component    = "wx134c8103faa5a59e"
	appSecret    = "bench-app-secret-0123456789abcdef"
	clientID     = "bench"
	clientSecret = "bench-client-secret-0123456789abcdef"
	// lifetime of all tokens: as WeChat's, and longer than any run.
	lifetime = 2 * time.Hour
)

func authorizer(i int) string { return fmt.Sprintf("wx%016x", i) }

// writeRecords puts into a gateway's storage what it would have after n
// accounts have authorized: a ticket, a component token, and n tokens of the
// length of WeChat's, which live for left.
func writeRecords(storage vault.Storage, n int, left time.Duration) error {
	keys, err := vault.NewKeyring(vault.DeriveKey(secret.New(appSecret), component))
	if err != nil {
		return err
	}
	v := vault.New(func() vault.Storage { return storage }, func(string) *vault.Keyring { return keys })
	ctx, now := context.Background(), time.Now()
	ticket := vault.Ticket{Value: secret.New("ticket@@@" + strings.Repeat("x", 80)), CreateTime: now, Received: now}
	if _, err := v.StoreTicket(ctx, component, ticket); err != nil {
		return err
	}
	write := func(who subject.Subject, refresh secret.Secret, expires time.Time) error {
		_, err := v.Store(ctx, who, vault.Record{
			Token:    secret.New("90_" + strings.Repeat("x", 136) + string(who)[len(who)-18:]),
			Refresh:  refresh,
			Obtained: expires.Add(-lifetime),
			Expires:  expires,
		})
		return err
	}
	if err := write(subject.Of(component, ""), nil, now.Add(lifetime)); err != nil {
		return err
	}
	var next atomic.Int64
	var writers errgroup.Group
	for range 2 * runtime.NumCPU() {
		writers.Go(func() error {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				refresh := secret.New("refreshtoken@@@" + strings.Repeat("y", 43))
				if err := write(subject.Of(component, authorizer(i)), refresh, now.Add(left)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return writers.Wait()
}

// files is Caddy's file system storage without its fsync, with which a million
// records take minutes. No gateway runs yet, so locks lock nothing.
type files struct {
	vault.Storage // the rest is not called
	root          string
}

func (files) Lock(context.Context, string) error   { return nil }
func (files) Unlock(context.Context, string) error { return nil }

func (f files) Load(_ context.Context, key string) ([]byte, error) {
	return os.ReadFile(filepath.Join(f.root, key))
}

func (f files) Store(_ context.Context, key string, value []byte) error {
	path := filepath.Join(f.root, key)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, value, 0o600)
}

// writeTokens writes n different gateway tokens for so many authorizers, one
// after the other without anything between: all have the same width, which it
// returns.
func writeTokens(path string, n, authorizers int) (width int, err error) {
	key, err := gwtoken.NewKey(secret.New(appSecret), sha256.Sum256([]byte(clientSecret)))
	if err != nil {
		return 0, err
	}
	file, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	out := bufio.NewWriterSize(file, 1<<20)
	expires := time.Now().Add(lifetime)
	for i := range n {
		token := key.Issue(gwtoken.Claims{Client: clientID, Subject: subject.Of(component, authorizer(i%authorizers)), Expires: expires})
		width = len(token)
		if _, err := out.WriteString(token); err != nil {
			return 0, err
		}
	}
	return width, out.Flush()
}
