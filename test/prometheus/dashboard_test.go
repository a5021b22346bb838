// SPDX-License-Identifier: Apache-2.0

package prometheus_test

import (
	"encoding/json"
	"slices"
	"testing"
)

const dashboardFile = "../../deploy/grafana/wechat.json"

// dashboard is what these tests read of a dashboard of Grafana.
type dashboard struct {
	ID         *int
	UID, Title string
	Panels     []struct {
		ID          int
		Type        string
		Title       string
		Description string
		Datasource  datasource
		GridPos     struct{ X, Y, W, H int }
		Targets     []struct {
			RefID      string
			Expr       string
			Datasource datasource
		}
	}
	Templating struct {
		List []struct {
			Name, Type, Definition string
			Query                  any
			Datasource             datasource
		}
	}
}

type datasource struct{ Type, UID string }

func parseDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// The dashboard can be imported into any Grafana: it has no id of another one, asks for
// its Prometheus, and needs no plugin.
func TestDashboardCanBeImported(t *testing.T) {
	d := parseDashboard(t)
	if d.ID != nil || d.UID == "" || d.Title == "" || len(d.Panels) < 12 {
		t.Errorf("id %v, uid %q, title %q, %d panels", d.ID, d.UID, d.Title, len(d.Panels))
	}
	chosen := datasource{"prometheus", "${datasource}"}
	for i, v := range d.Templating.List {
		switch {
		case i == 0 && (v.Name != "datasource" || v.Type != "datasource" || v.Query != "prometheus"):
			t.Errorf("the first variable is not the Prometheus to use: %+v", v)
		case i > 0 && (v.Type != "query" || v.Datasource != chosen):
			t.Errorf("variable %s does not ask the chosen Prometheus", v.Name)
		}
	}
	var ids []int
	for _, p := range d.Panels {
		if slices.Contains(ids, p.ID) || p.ID == 0 {
			t.Errorf("panel %q has no id of its own", p.Title)
		}
		ids = append(ids, p.ID)
		if !slices.Contains([]string{"timeseries", "stat"}, p.Type) {
			t.Errorf("panel %q is of type %s: does every Grafana have it?", p.Title, p.Type)
		}
		if p.Title == "" || p.Description == "" || len(p.Targets) == 0 || p.Datasource != chosen || p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W*p.GridPos.H == 0 {
			t.Errorf("panel %q is not complete, or not on the page: %+v", p.Title, p)
		}
		var letters []string
		for _, target := range p.Targets {
			if target.Expr == "" || target.Datasource != chosen || slices.Contains(letters, target.RefID) {
				t.Errorf("panel %q: a query is not complete: %+v", p.Title, target)
			}
			letters = append(letters, target.RefID)
		}
	}
	for i, p := range d.Panels {
		for _, q := range d.Panels[i+1:] {
			a, b := p.GridPos, q.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("panels %q and %q lie upon each other", p.Title, q.Title)
			}
		}
	}
}
