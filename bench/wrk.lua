-- SPDX-License-Identifier: Apache-2.0
--
-- Arguments: method, bytes of the body, then, to use one gateway token of many
-- in each request, the file of tokens, their width, how many of them, "uniform"
-- or "zipf", and a seed.

local tokens, width, count, zipf, path

function init(args)
	wrk.method = args[1]
	if tonumber(args[2]) > 0 then
		wrk.body = '{"touser":"o1","content":"' .. string.rep("x", tonumber(args[2]) - 28) .. '"}'
		wrk.headers["Content-Type"] = "application/json"
	end
	if args[3] then
		local file = assert(io.open(args[3], "rb"))
		tokens, width, count, zipf = file:read("*a"), tonumber(args[4]), tonumber(args[5]), args[6] == "zipf"
		file:close()
		math.randomseed(tonumber(args[7]))
		path = wrk.path
		request = with_token
	end
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
	return wrk.format(nil, path .. "&access_token=" .. tokens:sub(i * width + 1, (i + 1) * width))
end

function done(summary, latency)
	local e = summary.errors
	io.write(string.format('{"requests":%d,"microseconds":%d,"failed":%d,"p50":%d,"p99":%d}\n',
		summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
		latency:percentile(50), latency:percentile(99)))
end
