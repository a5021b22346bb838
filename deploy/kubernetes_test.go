// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"encoding/json"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// help runs a command with --help, for which its flags must be right.
func help(arguments ...string) ([]byte, error) {
	return exec.Command(caddy, append(slices.Clone(arguments), "--help")...).CombinedOutput()
}

// manifest decodes a file as strictly as Kubernetes does: a field that there is not, or a
// value of another type, is an error, and so is a key that is there twice.
func manifest[T any](t *testing.T, name, apiVersion, kind string) (object T) {
	t.Helper()
	text := []byte(read(t, filepath.Join("kubernetes", name)))
	if err := yaml.UnmarshalStrict(text, &object); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	var says struct{ APIVersion, Kind string }
	if err := yaml.Unmarshal(text, &says); err != nil || says.APIVersion != apiVersion || says.Kind != kind {
		t.Fatalf("%s is a %s of %s, %v", name, says.Kind, says.APIVersion, err)
	}
	return object
}

// The manifests belong together: what selects finds the pods, ports have the names by
// which they are called, and nothing is forgotten.
func TestKubernetes(t *testing.T) {
	deployment := manifest[appsv1.Deployment](t, "deployment.yaml", "apps/v1", "Deployment")
	service := manifest[corev1.Service](t, "service.yaml", "v1", "Service")
	budget := manifest[policyv1.PodDisruptionBudget](t, "poddisruptionbudget.yaml", "policy/v1", "PodDisruptionBudget")
	network := manifest[networkingv1.NetworkPolicy](t, "networkpolicy.yaml", "networking.k8s.io/v1", "NetworkPolicy")
	if files, err := filepath.Glob("kubernetes/*"); err != nil || len(files) != 6 {
		t.Errorf("there are %q, %v: test what is new", files, err)
	}
	pod := deployment.Spec.Template
	for what, selected := range map[string]map[string]string{
		"Deployment": deployment.Spec.Selector.MatchLabels, "Service": service.Spec.Selector, "PodDisruptionBudget": budget.Spec.Selector.MatchLabels,
		"NetworkPolicy": network.Spec.PodSelector.MatchLabels, "topologySpreadConstraints": pod.Spec.TopologySpreadConstraints[0].LabelSelector.MatchLabels,
	} {
		if len(selected) == 0 || !labels.SelectorFromSet(selected).Matches(labels.Set(pod.Labels)) {
			t.Errorf("%s selects %v, the pods have %v", what, selected, pod.Labels)
		}
	}
	container := pod.Spec.Containers[0]
	var ports, called []string
	for _, port := range container.Ports {
		ports = append(ports, port.Name)
	}
	for _, port := range service.Spec.Ports {
		called = append(called, port.TargetPort.StrVal)
	}
	for _, rule := range network.Spec.Ingress {
		called = append(called, rule.Ports[0].Port.StrVal)
	}
	for _, probe := range []*corev1.Probe{container.StartupProbe, container.LivenessProbe, container.ReadinessProbe} {
		called = append(called, probe.HTTPGet.Port.StrVal)
	}
	for _, name := range called {
		if !slices.Contains(ports, name) {
			t.Errorf("port %q is called, there are %q", name, ports)
		}
	}
	// The pause before it is told to stop, grace_period, and then to store what WeChat has
	// handed out, on a slow storage.
	if least := container.Lifecycle.PreStop.Sleep.Seconds + 20 + 20; *pod.Spec.TerminationGracePeriodSeconds < least {
		t.Errorf("it is killed after %d s, which is less than the %d s that it may need", *pod.Spec.TerminationGracePeriodSeconds, least)
	}
	if *deployment.Spec.Replicas <= budget.Spec.MinAvailable.IntVal {
		t.Error("no node of the cluster can ever be emptied")
	}
}

// The pods are admitted where only those are that have no right at all, and they write
// into the folders that the image has for it, and nowhere else.
func TestKubernetesRestricted(t *testing.T) {
	pod := manifest[appsv1.Deployment](t, "deployment.yaml", "apps/v1", "Deployment").Spec.Template
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	if result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec)); !result.Allowed {
		t.Errorf("Kubernetes forbids it: %s: %s", result.ForbiddenReason(), result.ForbiddenDetail())
	}
	if container := pod.Spec.Containers[0]; !*container.SecurityContext.ReadOnlyRootFilesystem || *pod.Spec.AutomountServiceAccountToken {
		t.Error("its root file system can be written to, or it may speak with Kubernetes")
	}
	var written []string
	for _, mount := range pod.Spec.Containers[0].VolumeMounts {
		if !mount.ReadOnly {
			written = append(written, mount.MountPath)
		}
	}
	if !slices.Equal(written, []string{"/config", "/data", "/tmp"}) {
		t.Errorf("it writes into %q", written)
	}
}

// The configuration loads with secrets of the right form, and not with the placeholders.
// Its probes are answered where the manifests look.
func TestKubernetesConfiguration(t *testing.T) {
	config := manifest[corev1.ConfigMap](t, "configmap.yaml", "v1", "ConfigMap")
	secret := manifest[corev1.Secret](t, "secret.yaml", "v1", "Secret")
	container := manifest[appsv1.Deployment](t, "deployment.yaml", "apps/v1", "Deployment").Spec.Template.Spec.Containers[0]
	if container.EnvFrom[0].SecretRef.Name != secret.Name {
		t.Errorf("the pods get the secret %s, want %s", container.EnvFrom[0].SecretRef.Name, secret.Name)
	}
	caddyfile := config.Data["Caddyfile"]
	all, _ := wanted(caddyfile)
	if given := slices.Sorted(maps.Keys(secret.StringData)); !slices.Equal(given, all) {
		t.Errorf("the configuration reads %q, the secret has %q", all, given)
	}
	if load(t, caddyfile, secret.StringData) == nil {
		t.Error("it starts with placeholders for secrets")
	}
	if err := load(t, caddyfile, map[string]string{
		"WECHAT_APP_SECRET": strings.Repeat("a", 32), "WECHAT_TOKEN": "token", "WECHAT_AES_KEY": strings.Repeat("a", 43),
		"SHOP_SECRET": strings.Repeat("s", 32), "REDIS_PASSWORD": "p",
	}); err != nil {
		t.Error(err)
	}
	for _, probe := range []*corev1.Probe{container.StartupProbe, container.LivenessProbe} {
		if probe.HTTPGet.Path != "/wechat/health/live" { // readiness would kill a gateway whose storage is away
			t.Errorf("a gateway is killed unless %s says that it is well", probe.HTTPGet.Path)
		}
	}
	if path := container.ReadinessProbe.HTTPGet.Path; path != "/wechat/health/ready" || !strings.Contains(caddyfile, "\n:8082 {\n\twechat_health\n") {
		t.Errorf("readiness is asked at %s", path)
	}
}

// Only the ingress may say for whom it calls. Who calls as an application is known by the
// address of the connection, or "from" of a client would be worth nothing.
func TestKubernetesTrustsTheIngressAlone(t *testing.T) {
	adapted := adapt(t, manifest[corev1.ConfigMap](t, "configmap.yaml", "v1", "ConfigMap").Data["Caddyfile"])
	var config struct {
		Apps struct {
			HTTP struct {
				Servers map[string]struct {
					Listen  []string
					Proxies json.RawMessage `json:"trusted_proxies"`
				}
			}
		}
	}
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	trusts := make(map[string]bool)
	for _, server := range config.Apps.HTTP.Servers {
		trusts[strings.Join(server.Listen, " ")] = len(server.Proxies) > 0
	}
	if want := map[string]bool{":8080": false, ":8081": true, ":8082": false}; !maps.Equal(trusts, want) {
		t.Errorf("sites that take the caller's address from a header: %v, want %v", trusts, want)
	}
}
