// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// Queue names the queue of what one component, a component_appid, has for one
// target of one client; both have these names in the configuration.
//
// A queue without a target is flat: the release before had one queue for each
// client, whose files are directly in the client's folder. A node of that release
// beside this one still writes there. It ignores the folders of the targets.
type Queue struct {
	Component, Client, Target string
}

// Compare orders queues by client, target, component.
func (q Queue) Compare(other Queue) int {
	for _, pair := range [][2]string{{q.Client, other.Client}, {q.Target, other.Target}, {q.Component, other.Component}} {
		if c := strings.Compare(pair[0], pair[1]); c != 0 {
			return c
		}
	}
	return 0
}

// Queues returns all queues that have or had a file, of dead letters if dead, in
// the order of [Queue.Compare]: also those of components, clients and targets that
// are no longer configured. A client's flat queue is always among them. It lists
// the folders above the events, and reads nothing. The error is ErrUnavailable.
func (v *Vault) Queues(ctx context.Context, dead bool) ([]Queue, error) {
	components, err := v.children(ctx, "wechat")
	if err != nil {
		return nil, err
	}
	var all []Queue
	for _, folder := range components {
		component := path.Base(folder)
		if !subject.ValidAppID(component) {
			continue
		}
		clients, err := v.children(ctx, "wechat/"+component+eventFolder(dead))
		if err != nil {
			return nil, err
		}
		for _, folder := range clients {
			found, err := v.QueuesOf(ctx, component, path.Base(folder), dead)
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
	}
	slices.SortFunc(all, Queue.Compare)
	return slices.Compact(all), nil
}

// QueuesOf returns the queues of one client that have or had a file, of dead
// letters if dead, the flat one always first. It lists the client's folder and
// reads nothing. The error is ErrUnavailable. Of an invalid name there are none.
func (v *Vault) QueuesOf(ctx context.Context, component, client string, dead bool) ([]Queue, error) {
	flat := Queue{Component: component, Client: client}
	folder, err := flat.folder(dead)
	if err != nil {
		return nil, nil
	}
	below, err := v.children(ctx, folder)
	if err != nil {
		return nil, err
	}
	all := []Queue{flat}
	for _, key := range below {
		q := Queue{Component: component, Client: client, Target: path.Base(key)}
		if gwtoken.ValidClient(q.Target) { // else it is a file of the flat queue
			all = append(all, q)
		}
	}
	slices.SortFunc(all, Queue.Compare)
	return slices.Compact(all), nil
}

// MoveEvent moves an event or a dead letter to another place and returns it as it
// is there. change, which may be nil, changes it before it is stored; change must
// not change its key. The event is stored at its new place before it is deleted at
// the old one, so it is never lost; a call that is repeated after a crash or an
// error replaces what is at the new place. The caller must hold the lock of the
// queue from which it is moved. The errors are those of LoadEvent, and nothing is
// changed if that fails.
func (v *Vault) MoveEvent(ctx context.Context, from, to EventKey, change func(*Event)) (Event, error) {
	e, err := v.LoadEvent(ctx, from)
	if err != nil {
		return Event{}, err
	}
	e.EventKey = to
	if change != nil {
		change(&e)
	}
	if err := v.StoreEvent(ctx, e); err != nil {
		return Event{}, err
	}
	return e, v.RemoveEvent(ctx, from)
}

// children returns the keys directly below a folder, and none if there is no such
// folder. Its error is ErrUnavailable.
func (v *Vault) children(ctx context.Context, folder string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, unavailable("listing", folder, err)
	}
	keys, err := v.storage().List(ctx, folder, false)
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(keys) == 0:
		return nil, nil
	case err != nil: // FileStorage also fails if a temporary file disappears while it lists
		return nil, unavailable("listing", folder, err)
	}
	return keys, nil
}

// lock returns the name of the queue's lock. The flat queue has the name that the
// release before knows. The names of clients and targets have no underscore, so two
// queues never have the same lock.
func (q Queue) lock() string {
	name := "wechat_" + q.Component + "_events_" + q.Client
	if q.Target != "" {
		name += "_" + q.Target
	}
	return name
}

// digits returns the number of digits with which the names of its files begin.
func (q Queue) digits() int {
	if q.Target == "" {
		return 10
	}
	return 16
}

// eventFolder is the folder of all queues below that of the component.
func eventFolder(dead bool) string {
	if dead {
		return "/dead-events"
	}
	return "/events"
}

// folder returns the storage folder of the queue or of its dead letters.
func (q Queue) folder(dead bool) (string, error) {
	if err := q.check(); err != nil {
		return "", err
	}
	folder := "wechat/" + q.Component + eventFolder(dead) + "/" + q.Client
	if q.Target != "" {
		folder += "/" + q.Target
	}
	return folder, nil
}

// check returns an error unless all names are valid. An invalid one could be a
// path to a file outside the queue's folder.
func (q Queue) check() error {
	switch {
	case !subject.ValidAppID(q.Component):
		return errAppID(q.Component)
	case !gwtoken.ValidClient(q.Client):
		return errors.New("naming a queue: not the name of a client")
	case q.Target != "" && !gwtoken.ValidClient(q.Target):
		return errors.New("naming a queue: not the name of a target")
	}
	return nil
}
