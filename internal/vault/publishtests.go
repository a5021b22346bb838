// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"path"
	"regexp"
	"strconv"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// PublishTest is a code that WeChat's publish test has sent in a message, and that the
// gateway must send back. It is stored before the message is answered, so that no crash
// loses it, and deleted when the code is sent back. That this was done is noted in a
// [Claim] of the same id.
type PublishTest struct {
	AppID  string        // of the account that has got the message
	OpenID string        // of the sender
	Code   secret.Secret // authorization_code
}

// publishTestWire is the JSON of a PublishTest, with the code in clear text, see
// recordWire.
type publishTestWire struct {
	AppID  string `json:"appid"`
	OpenID string `json:"openid"`
	Code   string `json:"code"`
}

// PublishTestKey names a PublishTest. It becomes the storage key, which tells the age of
// a file that does not open.
//
//	wechat/<component>/publish-test/<received>-<id>.json
type PublishTestKey struct {
	Component string
	ID        string    // of the message, 32 hexadecimal digits
	Received  time.Time // in whole seconds; a repetition of the message has a key of its own
}

// publishTestFolder is the folder below that of the component.
const publishTestFolder = "/publish-test/"

// publishTestName is the form of the file names.
var publishTestName = regexp.MustCompile(`^([0-9]{1,18})-([0-9a-f]{32})\.json$`)

// publishTestPatience is patience for the lock of a PublishTest. It is longer than its
// owner needs: if the lock of an owner that is alive were broken, the code would be sent
// back twice. Nobody who calls the gateway waits for this lock.
const publishTestPatience = time.Minute

// StorePublishTest stores a PublishTest. It needs no lock: a key always stands for the
// same message. The error is ErrUnavailable, or that of an invalid name.
func (v *Vault) StorePublishTest(ctx context.Context, key PublishTestKey, p PublishTest) error {
	b, err := v.publishTestBox(key)
	if err != nil {
		return err
	}
	return store(ctx, b, publishTestWire{p.AppID, p.OpenID, p.Code.Reveal()})
}

// LoadPublishTest returns a PublishTest. Its errors are those of Load.
func (v *Vault) LoadPublishTest(ctx context.Context, key PublishTestKey) (PublishTest, error) {
	b, err := v.publishTestBox(key)
	if err != nil {
		return PublishTest{}, err
	}
	w, err := load[publishTestWire](ctx, b)
	return PublishTest{w.AppID, w.OpenID, secret.New(w.Code)}, err
}

// PublishTests returns the keys of all that a component has, in no particular order. It
// lists one folder and reads no files. The error is ErrUnavailable, or that of an invalid
// appid.
func (v *Vault) PublishTests(ctx context.Context, component string) (keys []PublishTestKey, err error) {
	if !subject.ValidAppID(component) {
		return nil, errAppID(component)
	}
	files, err := v.list(ctx, "wechat/"+component+publishTestFolder[:len(publishTestFolder)-1])
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if key, ok := publishTestOf(component, path.Base(file)); ok { // else it is a folder or a temporary file
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// RemovePublishTest deletes a PublishTest. It is no error if there is none. Otherwise the
// error is ErrUnavailable, or that of an invalid name.
func (v *Vault) RemovePublishTest(ctx context.Context, key PublishTestKey) error {
	b, err := v.publishTestBox(key)
	if err != nil {
		return err
	}
	return b.remove(ctx)
}

// LockPublishTest takes the lock of all keys of one message, see Lock. Whoever sends a
// code back holds it, for less than publishTestPatience.
func (v *Vault) LockPublishTest(ctx context.Context, key PublishTestKey) (unlock func() error, err error) {
	if _, err := v.publishTestBox(key); err != nil {
		return nil, err
	}
	return v.lock(ctx, v.storage(), "wechat_"+key.Component+"_publish-test_"+key.ID, publishTestPatience)
}

// publishTestBox returns the box of a PublishTest, and checks the names.
func (v *Vault) publishTestBox(key PublishTestKey) (box, error) {
	name := strconv.FormatInt(key.Received.Unix(), 10) + "-" + key.ID + ".json"
	switch {
	case !subject.ValidAppID(key.Component):
		return box{}, errAppID(key.Component)
	case !publishTestName.MatchString(name):
		return box{}, errors.New("naming a publish test: not a time and an id")
	}
	return v.box(key.Component, "wechat/"+key.Component+publishTestFolder+name)
}

// publishTestOf returns the key of the file with this name.
func publishTestOf(component, name string) (key PublishTestKey, ok bool) {
	parts := publishTestName.FindStringSubmatch(name)
	if parts == nil {
		return PublishTestKey{}, false
	}
	seconds, err := strconv.ParseInt(parts[1], 10, 64)
	return PublishTestKey{component, parts[2], time.Unix(seconds, 0)}, err == nil
}
