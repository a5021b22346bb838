// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

const (
	// indexPasses is how often all records are compared with the index of the
	// standings: records of the release before have none. The second time finds what
	// nodes of that release have stored while a cluster was updated.
	indexPasses = 2
	// indexPassInterval is the least time between the two.
	indexPassInterval = 24 * time.Hour
)

// indexFile tells how often all records were compared with the index. It has nothing to
// hide, and is not sealed.
type indexFile struct {
	Passes int       `json:"passes"`
	Last   time.Time `json:"last"`
}

// IndexPassDue reports whether all records of a component are to be compared with the
// index of the standings, see Repair. When that is done, IndexPassed must be called. It
// takes no lock: if two nodes do it at the same time, it is done twice. A file that
// cannot be read as JSON counts as none. The error is ErrUnavailable, or that of an
// invalid appid.
func (v *Vault) IndexPassDue(ctx context.Context, component string, now time.Time) (bool, error) {
	index, _, err := v.readIndex(ctx, component)
	if err != nil {
		return false, err
	}
	return index.Passes < indexPasses && now.Sub(index.Last) >= indexPassInterval, nil
}

// IndexPassed notes that all records of a component were compared with the index at a
// time. Its errors are those of IndexPassDue.
func (v *Vault) IndexPassed(ctx context.Context, component string, at time.Time) error {
	index, b, err := v.readIndex(ctx, component)
	if err != nil {
		return err
	}
	file, err := json.Marshal(indexFile{Passes: index.Passes + 1, Last: at.UTC()})
	if err != nil {
		return fmt.Errorf("storing %s: %w", b.key, err)
	}
	return b.write(ctx, b.key, file)
}

func (v *Vault) readIndex(ctx context.Context, component string) (index indexFile, b box, err error) {
	if !subject.ValidAppID(component) {
		return index, b, errAppID(component)
	}
	if b, err = v.box(component, statesFolder(component)+"/index"); err != nil {
		return index, b, err
	}
	file, err := b.read(ctx)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return index, b, err
	}
	if json.Unmarshal(file, &index) != nil {
		index = indexFile{}
	}
	return index, b, nil
}
