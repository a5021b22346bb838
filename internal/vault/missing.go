// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"io/fs"
)

// noFolder is a path of the storage below which nothing is ever stored.
const noFolder = "wechat/none"

// load loads a key. Redis storage (github.com/pberkel/caddy-storage-redis, up to 1.8.1
// at least) says fs.ErrNotExist also if Redis could not be reached, or not in time. Who
// believed that would take an account for unknown, and overwrite what is stored of it. So
// what seems to be missing is looked for again after the storage has answered something
// else. It costs two operations more where nothing is stored, which is rare.
func (in *ConfigStorage) load(ctx context.Context, key string) ([]byte, error) {
	value, err := in.storage.Load(ctx, key)
	if !errors.Is(err, fs.ErrNotExist) {
		return value, err
	}
	if _, err := in.storage.List(ctx, noFolder, false); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	value, err = in.storage.Load(ctx, key)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return value, err
}
