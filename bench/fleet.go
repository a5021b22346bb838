// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
)

// server is a proxy, or the upstream itself, under load.
type server struct {
	address string
	scheme  string   // how it is reached; "" is http
	process *process // nil: what it uses is not looked at
}

// fleet is everything that runs on this machine during a measurement.
type fleet struct {
	folder    string // of this run, removed at its end
	caddy     string // the program
	upstream  upstream
	processes []*process
}

// newFleet starts the upstream.
func newFleet(folder, caddy string) (*fleet, error) {
	f := &fleet{folder: folder, caddy: caddy}
	if err := writeCertificate(folder); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.Command(self, "upstream", folder)
	command.Stderr = os.Stderr
	if _, err := command.StdinPipe(); err != nil { // closed when this process ends, however it does
		return nil, err
	}
	printed, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	f.processes = append(f.processes, watch(command, nil))
	return f, json.NewDecoder(printed).Decode(&f.upstream)
}

// stop ends everything.
func (f *fleet) stop() {
	for _, p := range f.processes {
		p.stop()
	}
}

// counts asks the upstream what it has answered.
func (f *fleet) counts() (c counts, err error) {
	response, err := http.Get("http://" + f.upstream[plain] + countPath)
	if err != nil {
		return c, err
	}
	defer response.Body.Close()
	return c, json.NewDecoder(response.Body).Decode(&c)
}

// startCaddy runs Caddy with a Caddyfile until it serves. The environment is
// added to this process's own.
func (f *fleet) startCaddy(name string, s site, configure func(site) string, environment ...string) (*server, error) {
	s, config, err := f.prepare(name, s, configure)
	if err != nil {
		return nil, err
	}
	command := exec.Command(f.caddy, "run", "--adapter", "caddyfile", "--config", config)
	command.Env = append(os.Environ(), environment...)
	return f.start(name, s, command, adminOver(s.admin()))
}

func (f *fleet) startNginx(name string, s site) (*server, error) {
	s, config, err := f.prepare(name, s, site.nginx)
	if err != nil {
		return nil, err
	}
	return f.start(name, s, exec.Command("nginx", "-c", config, "-e", "stderr"), nil)
}

// forget lets the upstream count renewals anew.
func (f *fleet) forget() error {
	request, err := http.NewRequest(http.MethodDelete, "http://"+f.upstream[plain]+countPath, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// prepare completes a site, and writes its configuration into its own folder.
func (f *fleet) prepare(name string, s site, configure func(site) string) (site, string, error) {
	var err error
	if s.address, err = freeAddress(); err != nil {
		return s, "", err
	}
	s.folder = filepath.Join(f.folder, name)
	s.certificate, s.upstream = certificateFile(f.folder), f.upstream[s.link]
	if s.storage == "" {
		s.storage = fileSystem(filepath.Join(s.folder, "storage"))
	}
	if err := os.Mkdir(s.folder, 0o700); err != nil {
		return s, "", err
	}
	config := filepath.Join(s.folder, "config")
	return s, config, os.WriteFile(config, []byte(configure(s)), 0o600)
}

// start runs a proxy until it serves, with what it prints going to a file.
func (f *fleet) start(name string, s site, command *exec.Cmd, admin *http.Client) (*server, error) {
	log, err := os.Create(filepath.Join(out, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own handle
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		return nil, err
	}
	p := watch(command, admin)
	f.processes = append(f.processes, p)
	return &server{address: s.address, process: p}, p.reach(s.address)
}
