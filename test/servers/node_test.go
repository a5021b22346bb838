// SPDX-License-Identifier: Apache-2.0

package servers_test

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/test/need"
)

// startNode returns what runs a face of an SDK by node/server.js, in a process that ends
// with the test.
func startNode(sdk, version, face string) func(*testing.T, told) *application {
	return func(t *testing.T, told told) *application {
		t.Helper()
		program := need.Command(t, "install Node.js 18 or newer (apt-get install nodejs npm)", "node")
		need.File(t, "run npm ci --ignore-scripts in test/servers/node", "node/node_modules/"+sdk)
		command := exec.Command(program, "--no-deprecation", "server.js", sdk, face)
		command.Dir = "node"
		command.Env = append(os.Environ(), "NODE_ENV=production", "no_proxy=127.0.0.1", // axios would send even this through a proxy
			"GATEWAY="+told.gateway, "APPID="+told.appid, "SECRET="+clientSecret, "TOKEN="+pushToken, "ENCODING_AES_KEY="+aesKey, "FOLDER="+t.TempDir())
		var complaints strings.Builder
		command.Stderr = &complaints
		out, err := command.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		a, first, ended := new(application), make(chan string, 1), make(chan struct{})
		go func() {
			defer close(ended)
			lines := bufio.NewScanner(out)
			if lines.Scan() {
				first <- lines.Text()
			}
			for lines.Scan() {
				a.say(lines.Text())
			}
		}()
		t.Cleanup(func() {
			_ = command.Process.Kill()
			<-ended
			_ = command.Wait()
			if t.Failed() {
				t.Logf("%s has printed:\n%s\n%s", sdk, strings.Join(a.lines, "\n"), complaints.String())
			}
		})
		select {
		case line := <-first:
			words := strings.Fields(line)
			if len(words) != 3 || words[0] != "listening" {
				t.Fatalf("it says %q", line)
			}
			if words[2] != version {
				t.Fatalf("%s %s is installed and %s is wanted: run npm ci --ignore-scripts in test/servers/node", sdk, words[2], version)
			}
			a.url = words[1]
		case <-ended:
			t.Fatal("it has ended before it listened")
		case <-time.After(time.Minute):
			t.Fatal("it does not listen")
		}
		return a
	}
}
