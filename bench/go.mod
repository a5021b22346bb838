module github.com/caddy-wechat/caddy-wechat/bench

go 1.26.0

require (
	github.com/caddy-wechat/caddy-wechat v0.0.0
	golang.org/x/sync v0.23.0
)

require (
	github.com/aclements/go-moremath v0.0.0-20210112150236-f10218a38794 // indirect
	golang.org/x/perf v0.0.0-20250813145418-2f7363a06fe1 // indirect
)

tool golang.org/x/perf/cmd/benchstat

replace github.com/caddy-wechat/caddy-wechat => ../
