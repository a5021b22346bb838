// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"reflect"
	"runtime/debug"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

var buildInfo = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Namespace: "caddy", Subsystem: "wechat", Name: "build_info",
	Help: "Always 1; its label is the version of the gateway that runs.",
}, []string{"version"})

// BuildInfo shows the version of the gateway.
func BuildInfo(version string) { buildInfo.WithLabelValues(version).Set(1) }

// Version returns the version of the gateway in the program that runs, "(devel)" for one
// that was built from its source.
func Version() string {
	const unknown = "(devel)"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknown
	}
	gateway, _, _ := strings.Cut(reflect.TypeFor[Storage]().PkgPath(), "/internal/")
	for _, module := range append(info.Deps, &info.Main) {
		if module.Path == gateway && module.Version != "" {
			return module.Version
		}
	}
	return unknown
}
