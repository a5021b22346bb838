// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"path"
	"regexp"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// Notice tells the other nodes that an authorizer's record has changed in a way
// they cannot wait for: it was authorised, or has withdrawn.
//
//	wechat/<component>/news/<appid>-<id>     empty object; the name says it all
type Notice struct {
	AppID string // the authorizer's
	// ID is 32 hexadecimal digits: of an authorization_code's digest, so that
	// every node knows whose it is, or of chance.
	ID string
}

const noticesFolder = "/news/"

var noticeName = regexp.MustCompile(`^(wx[0-9a-f]{16})-([0-9a-f]{32})$`)

// PublishNotice stores a notice. Publishing it again changes nothing.
func (v *Vault) PublishNotice(ctx context.Context, component string, n Notice) error {
	b, err := v.noticeBox(component, n)
	if err != nil {
		return err
	}
	return b.write(ctx, b.key, []byte("{}"))
}

// Notices returns the notices of a component, in no order.
func (v *Vault) Notices(ctx context.Context, component string) ([]Notice, error) {
	if !subject.ValidAppID(component) {
		return nil, errAppID(component)
	}
	keys, err := v.list(ctx, "wechat/"+component+noticesFolder[:len(noticesFolder)-1])
	if err != nil {
		return nil, err
	}
	var all []Notice
	for _, key := range keys {
		if name := noticeName.FindStringSubmatch(path.Base(key)); name != nil { // else a folder or a temporary file
			all = append(all, Notice{AppID: name[1], ID: name[2]})
		}
	}
	return all, nil
}

// DeleteNotice deletes a notice. That it is not there is no error.
func (v *Vault) DeleteNotice(ctx context.Context, component string, n Notice) error {
	b, err := v.noticeBox(component, n)
	if err != nil {
		return err
	}
	return b.remove(ctx)
}

func (v *Vault) noticeBox(component string, n Notice) (box, error) {
	name := n.AppID + "-" + n.ID
	if !subject.ValidAppID(component) {
		return box{}, errAppID(component)
	}
	if !noticeName.MatchString(name) {
		return box{}, errors.New("naming notice: not an appid and an id")
	}
	return v.box(component, "wechat/"+component+noticesFolder+name)
}
