// SPDX-License-Identifier: Apache-2.0

package gwtest

import (
	"crypto/sha256"
	"fmt"
)

// The secrets of the clients in ManyClients besides ClientSecret, and one that
// no client has.
const (
	SoloSecret     = "solo-secret-0123456789abcdef0123456789"
	SoloNextSecret = "solo-next-0123456789abcdef0123456789ab" // solo's second one
	HashedSecret   = "hashed-secret-0123456789abcdef01234567" // is configured by its digest
	NarrowSecret   = "narrow-secret-0123456789abcdef01234567"
	PlatformSecret = "platform-secret-0123456789abcdef012345"
	IdleSecret     = "idle-secret-0123456789abcdef0123456789"
	UnknownSecret  = "nobodys-secret-0123456789abcdef0123456"
)

// ShopClient is the block of the client every gateway has unless
// Options.Clients says otherwise: it may act for every authorizer.
const ShopClient = "client shop {\nsecret " + ClientSecret + "\nauthorizers *\n}\n"

// ManyClients returns the blocks of shop and of clients that differ in
// authorizers, methods, paths and level.
func ManyClients() string {
	return ShopClient + fmt.Sprintf(`
		client solo {
			secret %s %s
			authorizers %s
		}
		client hashed {
			secret sha256:%x
			authorizers %s
		}
		client narrow {
			secret %s
			authorizers %s %s
			allow GET /cgi-bin/user/*
			allow /cgi-bin/menu/get
		}
		client platform {
			secret %s
			authorizers *
			component_api
		}
		client idle {
			secret %s
		}`, SoloSecret, SoloNextSecret, OfficialAccount,
		sha256.Sum256([]byte(HashedSecret)), MiniProgram,
		NarrowSecret, OfficialAccount, MiniProgram, PlatformSecret, IdleSecret)
}
