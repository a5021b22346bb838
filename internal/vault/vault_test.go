// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

var (
	_ vault.Storage = certmagic.Storage(nil)
	_ vault.Storage = (*vaulttest.Memory)(nil)
)

const (
	component  = "wx0123456789abcdef"
	authorizer = "wxfedcba9876543210"

	authorizerKey = "wechat/wx0123456789abcdef/authorizers/10/wxfedcba9876543210.json"
	componentKey  = "wechat/wx0123456789abcdef/component.json"
	ticketKey     = "wechat/wx0123456789abcdef/ticket.json"
)

var account = subject.Of(component, authorizer)

func key(fill byte) []byte { return bytes.Repeat([]byte{fill}, vault.KeySize) }

func mustKeyring(t testing.TB, keys ...[]byte) *vault.Keyring {
	t.Helper()
	ring, err := vault.NewKeyring(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// open returns a vault over storage with the given keys.
func open(t testing.TB, storage vault.Storage, keys ...[]byte) *vault.Vault {
	ring := mustKeyring(t, keys...)
	return vault.New(func() vault.Storage { return storage }, func(string) *vault.Keyring { return ring })
}

func mustStore(t testing.TB, v *vault.Vault, s subject.Subject, r vault.Record) vault.Record {
	t.Helper()
	stands, err := v.Store(t.Context(), s, r)
	if err != nil {
		t.Fatal(err)
	}
	return stands
}

func wantRecord(t *testing.T, want, got vault.Record) {
	t.Helper()
	if diff := cmp.Diff(want, got, equalSecrets); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

// full has every field set, with secrets that are easy to search for and times
// in a zone that is not UTC.
var full = vault.Record{
	Token: secret.New("SECRET-token"), Obtained: at(0).In(time.FixedZone("CST", 8*3600)), Expires: at(120),
	Refresh: secret.New("SECRET-refresh"), EventTime: at(-1),
	Code: secret.New("SECRET-code"), CodeExpires: at(9), Functions: []int{1, 17},
}

var fullTicket = vault.Ticket{Value: secret.New("SECRET-ticket"), CreateTime: at(0), Received: at(1), Asked: at(-5)}

func TestRoundTrip(t *testing.T) {
	for name, storage := range map[string]vault.Storage{
		"file storage": &certmagic.FileStorage{Path: t.TempDir()},
		"memory":       &vaulttest.Memory{},
	} {
		t.Run(name, func(t *testing.T) {
			v := open(t, storage, key(1))
			for _, s := range []subject.Subject{component, account} {
				if _, err := v.Load(t.Context(), s); !errors.Is(err, vault.ErrNotFound) || errors.Is(err, vault.ErrUnavailable) {
					t.Errorf("%s before: %v, want ErrNotFound", s, err)
				}
				unlock, err := v.Lock(t.Context(), s)
				if err != nil {
					t.Fatal(err)
				}
				full := told(full)
				stands := mustStore(t, v, s, full)
				if err := unlock(); err != nil {
					t.Error(err)
				}
				got, err := v.Load(t.Context(), s)
				if err != nil {
					t.Fatal(err)
				}
				want := generation(1, full)
				want.Obtained = at(0)
				wantRecord(t, want, got)
				wantRecord(t, generation(1, full), stands)
			}
			if _, err := v.LoadTicket(t.Context(), component); !errors.Is(err, vault.ErrNotFound) {
				t.Errorf("ticket before: %v, want ErrNotFound", err)
			}
			if _, err := v.StoreTicket(t.Context(), component, fullTicket); err != nil {
				t.Fatal(err)
			}
			got, err := v.LoadTicket(t.Context(), component)
			if diff := cmp.Diff(fullTicket, got, equalSecrets); err != nil || diff != "" {
				t.Errorf("ticket: %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestStoreMergesWithWhatStands(t *testing.T) {
	v := open(t, &vaulttest.Memory{}, key(1))
	mustStore(t, v, account, full)
	renewal := generation(1, full)
	renewal.Token, renewal.Refresh = secret.New("second"), nil
	got := mustStore(t, v, account, renewal)
	if got.Generation != 2 || got.Token.Reveal() != "second" || got.Refresh.Reveal() != "SECRET-refresh" {
		t.Errorf("stands generation %d with %q, %q", got.Generation, got.Token.Reveal(), got.Refresh.Reveal())
	}
	if _, err := v.StoreTicket(t.Context(), component, fullTicket); err != nil {
		t.Fatal(err)
	}
	older := vault.Ticket{Value: secret.New("older"), CreateTime: at(-10)}
	stands, err := v.StoreTicket(t.Context(), component, older)
	if err != nil || stands.Value.Reveal() != "SECRET-ticket" {
		t.Errorf("ticket that stands is %q, %v", stands.Value.Reveal(), err)
	}
}

// TestFiles holds the storage keys and the form of the files, and that no
// secret can be read in them.
func TestFiles(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	mustStore(t, v, component, full)
	mustStore(t, v, account, full)
	if _, err := v.StoreTicket(t.Context(), component, fullTicket); err != nil {
		t.Fatal(err)
	}
	files := memory.Files()
	for _, name := range []string{authorizerKey, componentKey, ticketKey} {
		var file map[string]any
		if err := json.Unmarshal(files[name], &file); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		box, err := base64.StdEncoding.DecodeString(file["box"].(string))
		if id, _ := file["key"].(string); err != nil || file["schema"] != 1.0 || len(id) != 16 || len(file) != 3 {
			t.Errorf("%s holds %s", name, files[name])
		}
		if bytes.Contains(files[name], []byte("SECRET")) || bytes.Contains(box, []byte("SECRET")) {
			t.Errorf("%s shows a secret", name)
		}
	}
	if len(files) != 3 {
		t.Errorf("%d files, want 3", len(files))
	}
}

func TestOnlyAppIDsBecomeKeys(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	for _, s := range []subject.Subject{
		"", "..", "../..", "wx", component + "/", component + "/../../x", component + "/" + authorizer + "/x",
		"wx0123456789ABCDEF", subject.Of("..", authorizer), component + ".json", component + "\x00",
	} {
		_, loadErr := v.Load(t.Context(), s)
		_, storeErr := v.Store(t.Context(), s, full)
		_, lockErr := v.Lock(t.Context(), s)
		for _, err := range []error{loadErr, storeErr, lockErr} {
			if err == nil || errors.Is(err, vault.ErrNotFound) {
				t.Errorf("%q: error is %v", s, err)
			}
		}
		if _, err := v.StoreTicket(t.Context(), string(s), fullTicket); err == nil && s != component {
			t.Errorf("%q: a ticket was stored", s)
		}
		if _, err := v.List(t.Context(), string(s)); err == nil {
			t.Errorf("%q: was listed", s)
		}
	}
	if n := len(memory.Files()); n != 0 {
		t.Errorf("%d files were stored", n)
	}
}

// TestUnavailableIsNeverNotFound: a failing storage must not look like an empty
// one, or every account would have to authorise again.
func TestUnavailableIsNeverNotFound(t *testing.T) {
	timeout, canceled := context.DeadlineExceeded, context.Canceled
	broken := errors.New("connection refused")
	for name, test := range map[string]struct {
		fault, want error
		cancel      bool
	}{
		"the storage fails":     {broken, broken, false},
		"the storage times out": {timeout, timeout, false},
		"the context has ended": {nil, canceled, true},
	} {
		t.Run(name, func(t *testing.T) {
			memory := new(vaulttest.Memory)
			v := open(t, memory, key(1))
			mustStore(t, v, account, full)
			before := memory.Files()
			memory.Intercept(func(context.Context, vaulttest.Op, string) error { return test.fault })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if test.cancel {
				cancel()
			}
			_, loadErr := v.Load(ctx, account)
			_, storeErr := v.Store(ctx, account, renewed(9, 60))
			_, lockErr := v.Lock(ctx, account)
			_, loadTicketErr := v.LoadTicket(ctx, component)
			_, storeTicketErr := v.StoreTicket(ctx, component, fullTicket)
			_, listErr := v.List(ctx, component)
			for i, err := range []error{loadErr, storeErr, lockErr, loadTicketErr, storeTicketErr, listErr} {
				if !errors.Is(err, vault.ErrUnavailable) || !errors.Is(err, test.want) || errors.Is(err, vault.ErrNotFound) {
					t.Errorf("error %d is %v, want ErrUnavailable because of %v", i, err, test.want)
				}
			}
			if diff := cmp.Diff(before, memory.Files()); diff != "" {
				t.Errorf("files changed:\n%s", diff)
			}
		})
	}
}

// "Not found" is an answer to Load alone.
func TestMissingFolderWhileStoringIsUnavailable(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	memory.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
		if op == vaulttest.Store || op == vaulttest.Lock {
			return fs.ErrNotExist
		}
		return nil
	})
	_, storeErr := v.Store(t.Context(), account, full)
	_, lockErr := v.Lock(t.Context(), account)
	for _, err := range []error{storeErr, lockErr} {
		if !errors.Is(err, vault.ErrUnavailable) || errors.Is(err, vault.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("error is %v", err)
		}
	}
}

func TestComponentWithoutKeysIsUnavailable(t *testing.T) {
	v := vault.New(func() vault.Storage { return new(vaulttest.Memory) }, func(string) *vault.Keyring { return nil })
	if _, err := v.Load(t.Context(), account); !errors.Is(err, vault.ErrUnavailable) {
		t.Errorf("error is %v", err)
	}
}

func TestList(t *testing.T) {
	for name, storage := range map[string]vault.Storage{
		"file storage": &certmagic.FileStorage{Path: t.TempDir()},
		"memory":       &vaulttest.Memory{},
	} {
		t.Run(name, func(t *testing.T) {
			v := open(t, storage, key(1))
			if got, err := v.List(t.Context(), component); len(got) != 0 || err != nil {
				t.Errorf("empty storage: %v, %v", got, err)
			}
			mustStore(t, v, component, full)
			mustStore(t, v, account, full)
			mustStore(t, v, subject.Of(component, "wxaaaaaaaaaaaaaaaa"), full)
			mustStore(t, v, subject.Of("wxbbbbbbbbbbbbbbbb", "wxcccccccccccccccc"), full)
			for _, litter := range []string{
				"10/123456", "10/wxfedcba9876543210.json.unreadable-e3b0c442",
				"11/wxfedcba9876543210.json", "wxfedcba9876543210.json", "10/readme.json",
			} {
				if err := storage.Store(t.Context(), "wechat/"+component+"/authorizers/"+litter, []byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			got, err := v.List(t.Context(), component)
			if diff := cmp.Diff([]string{"wxaaaaaaaaaaaaaaaa", authorizer}, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// vanishing imitates file storage, which reports fs.ErrNotExist, too, when a temporary file vanishes
// while it walks.
type vanishing struct{ vaulttest.Memory }

func (*vanishing) List(context.Context, string, bool) ([]string, error) {
	return []string{authorizerKey}, fs.ErrNotExist
}

func TestHalfAListIsNotAnEmptyOne(t *testing.T) {
	if got, err := open(t, new(vanishing), key(1)).List(t.Context(), component); !errors.Is(err, vault.ErrUnavailable) {
		t.Errorf("listed %v, %v", got, err)
	}
}

func BenchmarkLoad(b *testing.B) {
	record := full
	record.Token = secret.New(strings.Repeat("t", 512))
	for name, storage := range map[string]vault.Storage{
		"memory": &vaulttest.Memory{},
		"file":   &certmagic.FileStorage{Path: b.TempDir()},
	} {
		v := open(b, storage, key(1))
		mustStore(b, v, account, record)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Load(b.Context(), account); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+", store", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Store(b.Context(), account, record); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
