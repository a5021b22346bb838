// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"path"
	"regexp"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// Notice tells the other nodes of a cluster that the record of an authorizer
// has changed: the account has authorised the component, or has withdrawn. The
// other nodes have tokens of it in memory, and would use them until they
// expire.
//
//	wechat/<component>/news/<appid>-<id>     an empty object, not sealed
//
// A notice contains no credential.
type Notice struct {
	AppID string // of the authorizer
	// ID is 32 hexadecimal digits. For an authorization_code it is the first
	// half of a digest of the code. A node that gets the code from a browser
	// computes the same ID, and so knows whose code it is. If there is no code,
	// ID is random.
	ID string
}

// noticesFolder is the folder of the notices below that of the component.
const noticesFolder = "/news/"

// noticeName is the form of the file names.
var noticeName = regexp.MustCompile(`^(wx[0-9a-f]{16})-([0-9a-f]{32})$`)

// PublishNotice stores a notice. It needs no lock. The caller should have
// stored the record before: the other nodes read it as soon as they see the
// notice. A second call with the same notice changes nothing. The error is
// ErrUnavailable, or that of an invalid name.
func (v *Vault) PublishNotice(ctx context.Context, component string, n Notice) error {
	b, err := v.noticeBox(component, n)
	if err != nil {
		return err
	}
	return b.write(ctx, b.key, []byte("{}"))
}

// Notices returns all notices of a component, in no particular order, also
// those that this node has published. It lists one folder and reads no files.
// The error is ErrUnavailable, or that of an invalid appid.
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
		if name := noticeName.FindStringSubmatch(path.Base(key)); name != nil { // else it is a folder or a temporary file
			all = append(all, Notice{AppID: name[1], ID: name[2]})
		}
	}
	return all, nil
}

// DeleteNotice deletes a notice. It is no error if there is none: every node
// deletes the notices that are old enough. Otherwise the error is
// ErrUnavailable, or that of an invalid name.
func (v *Vault) DeleteNotice(ctx context.Context, component string, n Notice) error {
	b, err := v.noticeBox(component, n)
	if err != nil {
		return err
	}
	return b.remove(ctx)
}

// noticeBox returns the box of a notice, and checks that both names are valid.
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
