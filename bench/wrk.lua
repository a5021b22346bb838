-- SPDX-License-Identifier: Apache-2.0
--
-- Arguments: method, bytes of the body, then, to use one gateway token of many
-- in each request, the file of tokens, their width, how many of them, "uniform"
-- or "zipf", and a seed.

local tokens, text, width, count, zipf, path

function init(args)
	wrk.method = args[1]
	if tonumber(args[2]) > 0 then
		wrk.body = '{"touser":"o1","content":"' .. string.rep("x", tonumber(args[2]) - 28) .. '"}'
		wrk.headers["Content-Type"] = "application/json"
	end
	if args[3] then
		width, count, zipf = tonumber(args[4]), tonumber(args[5]), args[6] == "zipf"
		tokens = map(args[3], width * count)
		math.randomseed(tonumber(args[7]))
		path = wrk.path
		request = with_token
	end
end

-- What is mapped need not be read: that would push what all others need out of
-- the processor's caches.
function map(path, size)
	local ffi = require("ffi")
	ffi.cdef("int open(const char *, int, ...); void *mmap(void *, size_t, int, int, int, long);")
	local PROT_READ, MAP_SHARED = 1, 1
	local memory = ffi.C.mmap(nil, size, PROT_READ, MAP_SHARED, ffi.C.open(path, 0), 0)
	assert(memory ~= ffi.cast("void *", -1), path)
	text = ffi.string
	return ffi.cast("const char *", memory)
end

-- Without it wrk makes the request once and repeats it. Zipf with exponent 1:
-- the nth token is used in proportion to log(1 + 1/n), that is 1/n.
function with_token()
	local i
	if zipf then
		i = math.floor((count + 1) ^ math.random()) - 1
	else
		i = math.random(0, count - 1)
	end
	return wrk.format(nil, path .. "&access_token=" .. text(tokens + i * width, width))
end

function done(summary, latency)
	local e = summary.errors
	io.write(string.format('{"requests":%d,"microseconds":%d,"failed":%d,"p50":%d,"p99":%d}\n',
		summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
		latency:percentile(50), latency:percentile(99)))
end
