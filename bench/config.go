// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// idle is how many connections every proxy keeps to the upstream. Caddy's
// default of 32 would let every second request of 256 clients dial, and that is
// not what is to be compared.
const idle = 512

// staticHeader is what the other proxies put in, as though WeChat took its
// token in a header: the least that a gateway could do.
const staticHeader = "Bearer 90_0123456789abcdef0123456789abcdef0123456789abcdef"

// site is what a configuration is made from.
type site struct {
	folder      string // for whatever the proxy writes
	certificate string // file, of the upstream
	address     string // where it listens
	link        link
	upstream    string // address
	named       bool   // answers to one name alone, which costs Caddy a few steps
	storage     string // as Caddyfiles write it
	cacheSize   int    // of a gateway; 0 for its default
	audited     bool   // a gateway notes every call in its log
}

func fileSystem(folder string) string { return fmt.Sprintf("file_system %q", folder) }
func redis(address string) string     { return fmt.Sprintf("redis {\n\t\taddress %s\n\t}", address) }

// admin is the unix socket of the admin API.
func (s site) admin() string { return filepath.Join(s.folder, "admin") }

func (s site) scheme() string {
	if s.link == plain {
		return "http"
	}
	return "https"
}

// name is the site's in a Caddyfile.
func (s site) name() string {
	host, port, _ := net.SplitHostPort(s.address)
	if !s.named {
		host = ""
	}
	return "http://" + host + ":" + port
}

// trust lets Caddy's transport trust the upstream's certificate.
func (s site) trust() string {
	if s.link == plain {
		return ""
	}
	return fmt.Sprintf("tls_trust_pool file %q", s.certificate)
}

func (s site) globals(more string) string {
	return fmt.Sprintf(`{
	admin unix/%s
	auto_https off
	persist_config off
	storage %s
	%s
}
`, s.admin(), s.storage, more)
}

// stock is a Caddyfile for Caddy's own reverse proxy.
func (s site) stock() string {
	return s.globals("") + fmt.Sprintf(`%s {
	bind 127.0.0.1
	reverse_proxy %s://%s {
		header_up Authorization %q
		transport http {
			keepalive_idle_conns_per_host %d
			%s
		}
	}
}
`, s.name(), s.scheme(), s.upstream, staticHeader, idle, s.trust())
}

// gateway is a Caddyfile for this gateway, with its defaults but for cacheSize and audited.
func (s site) gateway() string {
	options, log := "", ""
	if s.cacheSize > 0 {
		options = fmt.Sprintf("cache_size %d", s.cacheSize)
	}
	if s.audited {
		options = "audit calls"
		log = fmt.Sprintf(`
	log audit {
		include wechat.audit
		output wechat_buffered file %s {
			roll_uncompressed
		}
	}
	log default {
		format wechat
		exclude wechat.audit
	}`, filepath.Join(s.folder, "calls.log"))
	}
	app := fmt.Sprintf(`wechat {
		component %s {
			app_secret       %s
			token            bench
			encoding_aes_key 0123456789abcdef0123456789abcdef0123456789A
		}
		client %s {
			secret      %s
			authorizers *
		}
		api %s://%s
		%s
	}%s`, component, appSecret, clientID, clientSecret, s.scheme(), s.upstream, options, log)
	return s.globals(app) + fmt.Sprintf(`%s {
	bind 127.0.0.1
	wechat_proxy {
		transport http {
			%s
		}
	}
}
`, s.name(), s.trust())
}

// nginx is a configuration for nginx with two workers.
func (s site) nginx() string {
	return fmt.Sprintf(`daemon off;
%[1]s
worker_processes 2;
pid %[2]s/nginx.pid;
events { worker_connections 4096; }
http {
	access_log off;
	client_body_temp_path %[2]s/nginx-body;
	proxy_temp_path %[2]s/nginx-proxy;
	fastcgi_temp_path %[2]s/nginx-fastcgi;
	uwsgi_temp_path %[2]s/nginx-uwsgi;
	scgi_temp_path %[2]s/nginx-scgi;
	upstream wechat {
		server %[3]s;
		keepalive %[4]d;
		keepalive_requests 1000000;
	}
	server {
		listen %[5]s;
		keepalive_requests 1000000;
		location / {
			proxy_pass %[6]s://wechat;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Authorization "%[7]s";
			proxy_max_temp_file_size 0;
			proxy_ssl_trusted_certificate %[8]s;
			proxy_ssl_verify on;
			proxy_ssl_name %[9]s;
		}
	}
}
`, s.user(), s.folder, s.upstream, idle, s.address, s.scheme(), staticHeader, s.certificate, upstreamName)
}

// user keeps the workers of a master that root has started from becoming
// somebody else, who cannot write into the folder. For others it is a warning.
func (s site) user() string {
	if os.Getuid() == 0 {
		return "user root;"
	}
	return ""
}
