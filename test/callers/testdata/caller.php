<?php
// SPDX-License-Identifier: Apache-2.0

// Calls WeChat as people write it by hand, with curl.
//
// Standard input has one step a line, its words separated by tabs. Each is
// answered by one line: ok or error, a tab, and what the caller has to say.

class Caller
{
    private string $url, $appid, $secret;
    private string $held = '';
    private CurlHandle $curl; // keeps its connections

    public function __construct()
    {
        $this->curl = curl_init();
    }

    private function ask(string $method, string $url, array|string|null $body = null, array $header = []): string
    {
        curl_reset($this->curl);
        curl_setopt_array($this->curl, [CURLOPT_URL => $url, CURLOPT_RETURNTRANSFER => true, CURLOPT_HTTPHEADER => $header]);
        if ($method === 'POST' || $body !== null) {
            curl_setopt($this->curl, CURLOPT_POSTFIELDS, $body ?? '');
            curl_setopt($this->curl, CURLOPT_CUSTOMREQUEST, $method);
        }
        $answer = curl_exec($this->curl);
        if ($answer === false) {
            throw new Exception(curl_error($this->curl));
        }
        return $answer;
    }

    public function start(string $url, string $appid, string $secret): void
    {
        [$this->url, $this->appid, $this->secret] = [$url, $appid, $secret];
    }

    public function hold(string $token): void
    {
        $this->held = $token;
    }

    public function token(): string
    {
        if ($this->held === '') {
            $query = http_build_query(['grant_type' => 'client_credential', 'appid' => $this->appid, 'secret' => $this->secret]);
            $this->held = checked($this->ask('GET', "$this->url/cgi-bin/token?$query"))['access_token'];
        }
        return $this->held;
    }

    // Makes a call, and once more with another token if WeChat wants one.
    private function call(string $method, string $path, array|string|null $body = null, array $header = []): string
    {
        foreach ([false, true] as $last) {
            $mark = str_contains($path, '?') ? '&' : '?';
            $answer = $this->ask($method, "$this->url$path{$mark}access_token={$this->token()}", $body, $header);
            if (!in_array(errcode($answer), [40001, 40014, 42001]) || $last) {
                return $answer;
            }
            $this->held = '';
        }
    }

    public function get(): string
    {
        return json_encode(checked($this->call('GET', '/cgi-bin/user/get')));
    }

    public function send(string $text): void
    {
        $message = ['touser' => 'o-follower', 'msgtype' => 'text', 'text' => ['content' => $text]];
        checked($this->call('POST', '/cgi-bin/message/custom/send', json_encode($message, JSON_UNESCAPED_UNICODE), ['Content-Type: application/json']));
    }

    public function upload(string $path, string $file): string
    {
        return checked($this->call('POST', "$path?type=image", ['media' => new CURLFile($file)]))['media_id'];
    }

    public function download(string $id, string $file): void
    {
        $content = $this->call('GET', "/cgi-bin/media/get?media_id=$id");
        if (errcode($content) !== 0) {
            checked($content);
        }
        file_put_contents($file, $content);
    }

    public function login(string $how, string $path, string $name, string $code): string
    {
        $given = ['appid' => $this->appid, 'secret' => $this->secret, $name => $code, 'grant_type' => 'authorization_code'];
        $url = $this->url . $path;
        $query = "$url?" . http_build_query($given);
        $json = ['Content-Type: application/json'];
        return checked(match ($how) {
            'query' => $this->ask('GET', $query),
            'form' => $this->ask('POST', $url, http_build_query($given)),
            'json' => $this->ask('POST', $url, json_encode($given), $json),
            'empty' => $this->ask('POST', $query),
            'stray' => $this->ask('GET', $query, '{}', $json),
        })['openid'];
    }
}

function errcode(string $answer): int
{
    return json_decode($answer, true)['errcode'] ?? 0; // null if it is a file
}

function checked(string $answer): array
{
    $decoded = json_decode($answer, true, 512, JSON_THROW_ON_ERROR);
    if (($decoded['errcode'] ?? 0) !== 0) {
        throw new Exception("{$decoded['errcode']} {$decoded['errmsg']}");
    }
    return $decoded;
}

$caller = new Caller();
while (($line = fgets(STDIN)) !== false) {
    $given = explode("\t", rtrim($line, "\n"));
    $step = array_shift($given);
    try {
        $said = "ok\t" . $caller->$step(...$given);
    } catch (Throwable $error) {
        $said = "error\t" . $error->getMessage();
    }
    echo str_replace("\n", ' ', $said), "\n";
}
