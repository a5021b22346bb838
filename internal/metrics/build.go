// SPDX-License-Identifier: Apache-2.0

package metrics

import "github.com/prometheus/client_golang/prometheus"

var buildInfo = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Namespace: "caddy", Subsystem: "wechat", Name: "build_info",
	Help: "Always 1; its label is the version of the gateway that runs.",
}, []string{"version"})

// BuildInfo shows the version of the gateway.
func BuildInfo(version string) { buildInfo.WithLabelValues(version).Set(1) }
