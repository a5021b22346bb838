// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"path"
	"regexp"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// News tells the other nodes that an authorizer's record has changed in a way
// they cannot wait for: it was authorised, or has withdrawn.
//
//	wechat/<component>/news/<appid>-<id>     empty object; the name says it all
type News struct {
	AppID string // the authorizer's
	// ID is 32 hexadecimal digits: of an authorization_code's digest, so that
	// every node knows whose it is, or of chance.
	ID string
}

const newsFolder = "/news/"

var newsName = regexp.MustCompile(`^(wx[0-9a-f]{16})-([0-9a-f]{32})$`)

// Tell stores a piece of news. Telling it again changes nothing.
func (v *Vault) Tell(ctx context.Context, component string, n News) error {
	b, err := v.newsBox(component, n)
	if err != nil {
		return err
	}
	return b.write(ctx, b.key, []byte("{}"))
}

// News returns the news of a component, in no order.
func (v *Vault) News(ctx context.Context, component string) ([]News, error) {
	if !subject.ValidAppID(component) {
		return nil, errAppID(component)
	}
	keys, err := v.list(ctx, "wechat/"+component+newsFolder[:len(newsFolder)-1])
	if err != nil {
		return nil, err
	}
	var all []News
	for _, key := range keys {
		if name := newsName.FindStringSubmatch(path.Base(key)); name != nil { // else a folder or a temporary file
			all = append(all, News{AppID: name[1], ID: name[2]})
		}
	}
	return all, nil
}

// ForgetNews deletes a piece of news. That it is not there is no error.
func (v *Vault) ForgetNews(ctx context.Context, component string, n News) error {
	b, err := v.newsBox(component, n)
	if err != nil {
		return err
	}
	return b.remove(ctx)
}

func (v *Vault) newsBox(component string, n News) (box, error) {
	name := n.AppID + "-" + n.ID
	if !subject.ValidAppID(component) {
		return box{}, errAppID(component)
	}
	if !newsName.MatchString(name) {
		return box{}, errors.New("naming news: not an appid and an id")
	}
	return v.box(component, "wechat/"+component+newsFolder+name)
}
