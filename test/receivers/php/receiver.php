<?php
// SPDX-License-Identifier: Apache-2.0

// An application that receives deliveries of the gateway, verified by the headers of
// Standard Webhooks. It answers a text message with a reply. To try it:
//
//   WEBHOOK_SECRET=whsec_... ANSWERS=/tmp/answers php -S 127.0.0.1:9000 receiver.php
declare(strict_types=1);

// By Standard Webhooks: HMAC-SHA256 over id, time and body, of the last five minutes. The
// specification has a library that does the same (standard-webhooks for Composer).
function verified(string $secret, string $id, string $timestamp, string $signatures, string $body): bool
{
    if ($id === '' || !ctype_digit($timestamp) || abs(time() - (int) $timestamp) > 300) {
        return false;
    }
    $key = base64_decode(substr($secret, strlen('whsec_')), true);
    $want = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
    foreach (explode(' ', $signatures) as $signature) { // while secrets are exchanged there are two
        if (hash_equals($want, $signature)) {
            return true;
        }
    }
    return false;
}

// Calls $handle once for the id of a delivery, and returns what it has returned. A
// repetition gets the same answer, and waits for it if need be. In an application this is
// a table, with the id as its key; old rows are deleted.
function once(string $folder, string $id, callable $handle): string
{
    @mkdir($folder, 0700);
    $file = fopen($folder . '/' . hash('sha256', $id), 'c+');
    flock($file, LOCK_EX);
    $known = stream_get_contents($file);
    if ($known !== '') {
        return substr($known, 1);
    }
    $answer = $handle();
    fwrite($file, '=' . $answer);
    return $answer;
}

// Does what a message or an event asks for, and returns the reply to a follower, or ''.
// What it does not know it takes all the same: an error brings it back, for days.
function handle(string $id, string $body): string
{
    // InfoType is of events about the platform and its accounts, MsgType of messages and
    // events of an account.
    $kind = field($body, 'InfoType') ?: field($body, 'MsgType');
    error_log("handled $id $kind");
    switch ($kind) {
        case 'text':
            return reply($body, 'You wrote: ' . field($body, 'Content'));
        case 'authorized':
        case 'unauthorized':
            error_log(field($body, 'AuthorizerAppid') . ": $kind");
    }
    return '';
}

// The text of the first element of a name. No XML parser: WeChat does not escape what
// followers write, who can write "]]>" and characters that XML forbids. The first one
// counts: WeChat writes names and types before a follower's text.
function field(string $body, string $name): string
{
    preg_match("~<$name>\s*(?:<!\[CDATA\[(.*?)\]\]>|([^<]*?))\s*</$name>~s", $body, $found);
    return ($found[1] ?? '') . ($found[2] ?? '');
}

// A text for the follower who has sent a message.
function reply(string $message, string $text): string
{
    return '<xml><ToUserName><![CDATA[' . field($message, 'FromUserName') . ']]></ToUserName>'
        . '<FromUserName><![CDATA[' . field($message, 'ToUserName') . ']]></FromUserName>'
        . '<CreateTime>' . time() . '</CreateTime><MsgType><![CDATA[text]]></MsgType>'
        . '<Content><![CDATA[' . str_replace(']]>', ']]]]><![CDATA[>', $text) . ']]></Content></xml>';
}

$body = file_get_contents('php://input');
$id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
if (!verified(getenv('WEBHOOK_SECRET'), $id, $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '', $body)) {
    http_response_code(401); // forged, or older than five minutes
    exit('signature');
}
// If handle fails, PHP answers 500, and the gateway delivers it again.
$answer = once(getenv('ANSWERS'), $id, fn() => handle($id, $body));
header('Content-Type: text/xml; charset=utf-8');
echo $answer;
