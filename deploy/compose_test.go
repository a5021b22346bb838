// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// project loads compose.yml with the code that Docker Compose loads it with, which holds
// it against the schema.
func project(t *testing.T) *types.Project {
	t.Helper()
	loaded, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: ".", ConfigFiles: []types.ConfigFile{{Filename: "compose.yml"}}, Environment: types.Mapping{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// Whoever starts it gets two nodes with one storage, before the sandbox, and sees them.
func TestCompose(t *testing.T) {
	p := project(t)
	if want := []string{"gateway-1", "gateway-2", "grafana", "prometheus", "redis", "sandbox"}; !slices.Equal(slices.Sorted(maps.Keys(p.Services)), want) {
		t.Fatalf("it has the services %q, want %q", p.ServiceNames(), want)
	}
	published := make(map[string]string)
	for name, service := range p.Services {
		if _, tag, _ := strings.Cut(service.Image, ":"); tag == "" || tag == "latest" && !strings.Contains(service.Image, "caddy-wechat") {
			t.Errorf("%s is whatever %q is today", name, service.Image)
		}
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" || published[port.Published] != "" {
				t.Errorf("%s: port %s is published at %q, and by %q", name, port.Published, port.HostIP, published[port.Published])
			}
			published[port.Published] = name
		}
		for _, volume := range service.Volumes {
			if _, err := os.Stat(volume.Source); volume.Type == types.VolumeTypeBind && (err != nil || !volume.ReadOnly) {
				t.Errorf("%s mounts %s, read-only %t: %v", name, volume.Source, volume.ReadOnly, err)
			}
		}
	}
	scraped := read(t, "prometheus/prometheus.yml")
	for _, node := range []string{"gateway-1", "gateway-2"} {
		if aliases := p.Services[node].Networks["default"].Aliases; !slices.Equal(aliases, []string{"gateway"}) {
			t.Errorf("%s gets pushes under the names %q", node, aliases)
		}
		if !strings.Contains(scraped, `"`+node+`:8082"`) {
			t.Errorf("Prometheus does not ask %s", node)
		}
	}
}

// The configuration in the image loads with the environment that compose.yml gives it,
// which has what is needed and nothing that nobody reads.
func TestComposeConfiguresTheImage(t *testing.T) {
	caddyfile := read(t, "image/Caddyfile")
	all, needed := wanted(caddyfile)
	for _, name := range []string{"gateway-1", "gateway-2"} {
		environment := make(map[string]string)
		for variable, value := range project(t).Services[name].Environment {
			environment[variable] = *value
			if !slices.Contains(all, variable) {
				t.Errorf("%s gets %s, which the configuration does not read", name, variable)
			}
		}
		for _, variable := range needed {
			if environment[variable] == "" {
				t.Errorf("%s does not get %s", name, variable)
			}
		}
		if err := load(t, caddyfile, environment); err != nil {
			t.Errorf("%s does not start: %v", name, err)
		}
	}
}

// The command of the sandbox is one that there is.
func TestComposeStartsTheSandbox(t *testing.T) {
	command := project(t).Services["sandbox"].Command
	if len(command) < 4 || strings.Join(command[:3], " ") != "caddy wechat sandbox" || !slices.Contains(command, "--messages-url=http://gateway:8081/wechat/messages/$APPID$") {
		t.Fatalf("%q", command)
	}
	if output, err := help(command[1:]...); err != nil {
		t.Errorf("%q: %v\n%s", command, err, output)
	}
}

// The gateway may write into its folders on a root file system that it cannot write to.
// Docker gives a tmpfs the mode of the folder in the image, but not its owner.
func TestComposeLetsTheGatewayWrite(t *testing.T) {
	for _, name := range []string{"gateway-1", "gateway-2", "sandbox"} {
		service := project(t).Services[name]
		if want := []string{"/config:uid=65532,gid=65532", "/data:uid=65532,gid=65532", "/tmp"}; !service.ReadOnly || !slices.Equal(service.Tmpfs, want) {
			t.Errorf("%s: read-only %t, may write into %q, want %q", name, service.ReadOnly, service.Tmpfs, want)
		}
	}
}

// Where something else ends TLS, the image can be told what browsers see.
func TestImageBehindTLS(t *testing.T) {
	caddyfile := read(t, "image/Caddyfile")
	const component = "WECHAT_COMPONENT=wx134c8103faa5a59e"
	const told = `"public_url":"https://open.example.com"`
	if adapted := adapt(t, caddyfile, component, "WECHAT_PLATFORM=public_url https://open.example.com"); !strings.Contains(string(adapted), told) {
		t.Errorf("no %s in %s", told, adapted)
	}
	if adapted := adapt(t, caddyfile, component); strings.Contains(string(adapted), "public_url") {
		t.Errorf("a public_url by itself: %s", adapted)
	}
}
