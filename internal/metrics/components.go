// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var componentExpires = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Namespace: "caddy", Subsystem: "wechat", Name: "component_token_expires_timestamp_seconds",
	Help: "When the component_access_token in the storage expires; 0 if there is none.",
}, []string{"component"})

// NoTicket notes that the storage has no ticket of a component: the gauge is 0, as old as
// can be.
func NoTicket(component string) { ticketReceived.WithLabelValues(component).Set(0) }

// ComponentToken notes until when the token of a component is valid, whichever node has
// renewed it; the zero time stands for no token.
func ComponentToken(component string, expires time.Time) {
	value := 0.0
	if !expires.IsZero() {
		value = float64(expires.UnixMilli()) / 1000
	}
	componentExpires.WithLabelValues(component).Set(value)
}

// ForgetComponent ends the gauges of a component that is no longer configured.
func ForgetComponent(component string) {
	ticketReceived.DeleteLabelValues(component)
	componentExpires.DeleteLabelValues(component)
}
