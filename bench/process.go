// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a proxy at work, and what the kernel and its admin API tell of it.
type process struct {
	cmd   *exec.Cmd
	admin *http.Client // nil if it is not Caddy
	ended chan struct{}
}

// watch looks after a command that has been started.
func watch(command *exec.Cmd, admin *http.Client) *process {
	p := &process{cmd: command, admin: admin, ended: make(chan struct{})}
	go func() { _ = command.Wait(); close(p.ended) }()
	return p
}

// reach waits until the process takes connections at the address.
func (p *process) reach(address string) error {
	for range 6000 {
		if connection, err := net.Dial("tcp", address); err == nil {
			return connection.Close()
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s has ended: see its log", p.cmd)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s does not listen on %s", p.cmd, address)
}

// stop ends the process, by force if it takes longer than five seconds.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// adminOver returns a client for the admin API on a unix socket.
func adminOver(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
}

// get asks the admin API.
func (p *process) get(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://admin"+path, nil)
	if err != nil {
		return nil, err
	}
	return p.ask(request)
}

func (p *process) ask(request *http.Request) ([]byte, error) {
	response, err := p.admin.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s was answered %s: %.200s", request.URL.Path, response.Status, answer)
	}
	return answer, err
}

// usage is what a process has used since it began.
type usage struct {
	cpu     time.Duration
	mallocs uint64 // objects; 0 if it is not Caddy
	bytes   uint64 // allocated
	rss     uint64 // bytes held now
}

func (p *process) usage() (usage, error) {
	var u usage
	for _, pid := range p.pids() {
		cpu, err := cpuOf(pid)
		if err != nil {
			return u, err
		}
		rss, err := rssOf(pid)
		if err != nil {
			return u, err
		}
		u.cpu += cpu
		u.rss += rss
	}
	if p.admin == nil {
		return u, nil
	}
	answer, err := p.get(context.Background(), "/debug/vars")
	if err != nil {
		return u, err
	}
	var vars struct {
		Memstats struct{ Mallocs, TotalAlloc uint64 }
	}
	err = json.Unmarshal(answer, &vars)
	u.mallocs, u.bytes = vars.Memstats.Mallocs, vars.Memstats.TotalAlloc
	return u, err
}

// pids returns the process and its children, which nginx has.
func (p *process) pids() []string {
	pid := strconv.Itoa(p.cmd.Process.Pid)
	children, _ := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children") // a Go program has threads only
	return append(strings.Fields(string(children)), pid)
}

// tick is the unit of CPU time in /proc: user space sees a hundred a second,
// whatever the kernel counts in.
const tick = 10 * time.Millisecond

func cpuOf(pid string) (time.Duration, error) {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0, err
	}
	return parseStat(string(text))
}

// parseStat adds up utime and stime, the 14th and 15th field of proc(5)'s
// stat. The second is the command's name in brackets and may hold anything.
func parseStat(text string) (time.Duration, error) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, errors.New("/proc/<pid>/stat is too short")
	}
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick, err
}

func rssOf(pid string) (uint64, error) {
	text, err := os.ReadFile("/proc/" + pid + "/status")
	return kilobytes(string(text), "VmRSS"), err
}

// meminfo tells of the machine's memory, 0 if it cannot.
func meminfo(name string) uint64 {
	text, _ := os.ReadFile("/proc/meminfo")
	return kilobytes(string(text), name)
}

// kilobytes finds a line such as "VmRSS:  1024 kB" and returns it in bytes, 0
// if there is none.
func kilobytes(text, name string) uint64 {
	_, rest, _ := strings.Cut(text, name+":")
	line, _, _ := strings.Cut(rest, "kB")
	n, _ := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
	return n << 10
}

// freeAddress returns an address nobody listens on at the moment: neither
// Caddy nor nginx tells which port it got.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}
