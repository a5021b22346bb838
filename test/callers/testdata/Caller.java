// SPDX-License-Identifier: Apache-2.0

import java.io.*;
import java.net.*;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.*;
import java.util.*;
import java.util.regex.*;

import static java.nio.charset.StandardCharsets.UTF_8;

/**
 * Calls WeChat as people write it by hand: java Caller.java HttpURLConnection | HttpClient.
 *
 * Standard input has one step a line, its words separated by tabs. Each is
 * answered by one line: ok or error, a tab, and what the caller has to say.
 */
public class Caller {
    /** Makes a request and returns the body of the answer. A null type means: no body. */
    interface Http {
        byte[] ask(String method, String url, String type, byte[] body) throws Exception;
    }

    /** HttpURLConnection: writes the whole request, and only then reads the answer. */
    static byte[] withURLConnection(String method, String url, String type, byte[] body) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) URI.create(url).toURL().openConnection();
        connection.setRequestMethod(method);
        if (type != null || method.equals("POST")) {
            if (type != null) {
                connection.setRequestProperty("Content-Type", type);
            }
            connection.setDoOutput(true); // with a body, it makes a POST of a GET
            try (OutputStream out = connection.getOutputStream()) {
                out.write(body);
            }
        }
        try (InputStream in = connection.getResponseCode() < 400 ? connection.getInputStream() : connection.getErrorStream()) {
            return in.readAllBytes();
        }
    }

    static final HttpClient client = HttpClient.newHttpClient(); // prefers HTTP/2, and asks for an upgrade

    /** java.net.http, which sends and reads at the same time. */
    static byte[] withHttpClient(String method, String url, String type, byte[] body) throws Exception {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url)).method(method, HttpRequest.BodyPublishers.ofByteArray(body));
        if (type != null) {
            request.header("Content-Type", type);
        } else if (method.equals("GET")) {
            request.GET();
        }
        return client.send(request.build(), HttpResponse.BodyHandlers.ofByteArray()).body();
    }

    static final byte[] NOTHING = {};
    static final String JSON = "application/json", FORM = "application/x-www-form-urlencoded";

    final Http http;
    String url, appid, secret, held = "";

    Caller(Http http) {
        this.http = http;
    }

    String token() throws Exception {
        if (held.isEmpty()) {
            String asked = String.format("{\"grant_type\":\"client_credential\",\"appid\":\"%s\",\"secret\":\"%s\"}", appid, secret);
            held = member(http.ask("POST", url + "/cgi-bin/stable_token", JSON, asked.getBytes(UTF_8)), "access_token");
        }
        return held;
    }

    /** Makes a call, and once more with another token if WeChat wants one. */
    byte[] call(String method, String path, String type, byte[] body) throws Exception {
        for (boolean last = false; ; last = true) {
            String mark = path.contains("?") ? "&" : "?";
            byte[] answer = http.ask(method, url + path + mark + "access_token=" + token(), type, body);
            if (!Set.of("40001", "40014", "42001").contains(errcode(answer)) || last) {
                return answer;
            }
            held = "";
        }
    }

    String send(String text) throws Exception {
        String content = text.replace("\\", "\\\\").replace("\"", "\\\"");
        String message = "{\"touser\":\"o-follower\",\"msgtype\":\"text\",\"text\":{\"content\":\"" + content + "\"}}";
        checked(call("POST", "/cgi-bin/message/custom/send", JSON, message.getBytes(UTF_8)));
        return "";
    }

    String upload(String path, Path file) throws Exception {
        String boundary = UUID.randomUUID().toString();
        ByteArrayOutputStream body = new ByteArrayOutputStream();
        body.write(("--" + boundary + "\r\nContent-Disposition: form-data; name=\"media\"; filename=\"" + file.getFileName()
                + "\"\r\nContent-Type: image/jpeg\r\n\r\n").getBytes(UTF_8));
        body.write(Files.readAllBytes(file));
        body.write(("\r\n--" + boundary + "--\r\n").getBytes(UTF_8));
        return member(call("POST", path + "?type=image", "multipart/form-data; boundary=" + boundary, body.toByteArray()), "media_id");
    }

    String download(String id, Path file) throws Exception {
        byte[] content = call("GET", "/cgi-bin/media/get?media_id=" + id, null, NOTHING);
        Files.write(file, checked(content));
        return "";
    }

    String login(String how, String path, String name, String code) throws Exception {
        String form = "appid=" + appid + "&secret=" + secret + "&" + name + "=" + code + "&grant_type=authorization_code";
        String json = "{\"" + form.replace("=", "\":\"").replace("&", "\",\"") + "\"}";
        return member(switch (how) {
            case "query" -> http.ask("GET", url + path + "?" + form, null, NOTHING);
            case "form" -> http.ask("POST", url + path, FORM, form.getBytes(UTF_8));
            case "json" -> http.ask("POST", url + path, JSON, json.getBytes(UTF_8));
            case "empty" -> http.ask("POST", url + path + "?" + form, null, NOTHING);
            case "stray" -> http.ask("GET", url + path + "?" + form, JSON, "{}".getBytes(UTF_8));
            default -> throw new IllegalArgumentException(how);
        }, "openid");
    }

    /** Returns a member of an answer; Java has no JSON of its own. */
    static String member(byte[] answer, String name) throws IOException {
        Matcher found = Pattern.compile("\"" + name + "\"\\s*:\\s*\"([^\"]*)\"").matcher(new String(checked(answer), UTF_8));
        if (!found.find()) {
            throw new IOException("no " + name);
        }
        return found.group(1);
    }

    /** Returns the errcode, or "0" if the answer has none, as a file has not. */
    static String errcode(byte[] answer) {
        Matcher found = Pattern.compile("^\\s*\\{.*\"errcode\"\\s*:\\s*(-?\\d+)").matcher(new String(answer, UTF_8));
        return found.find() ? found.group(1) : "0";
    }

    static byte[] checked(byte[] answer) throws IOException {
        if (!errcode(answer).equals("0")) {
            throw new IOException(new String(answer, UTF_8));
        }
        return answer;
    }

    String start(String url, String appid, String secret) {
        this.url = url;
        this.appid = appid;
        this.secret = secret;
        return "";
    }

    String hold(String token) {
        held = token;
        return "";
    }

    String take(String step, String... given) throws Exception {
        return switch (step) {
            case "start" -> start(given[0], given[1], given[2]);
            case "hold" -> hold(given[0]);
            case "token" -> token();
            case "get" -> new String(checked(call("GET", "/cgi-bin/user/get", null, NOTHING)), UTF_8);
            case "send" -> send(given[0]);
            case "upload" -> upload(given[0], Path.of(given[1]));
            case "download" -> download(given[0], Path.of(given[1]));
            case "login" -> login(given[0], given[1], given[2], given[3]);
            default -> throw new IllegalArgumentException(step);
        };
    }

    public static void main(String[] arguments) throws Exception {
        Caller caller = new Caller(arguments[0].equals("HttpClient") ? Caller::withHttpClient : Caller::withURLConnection);
        PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), true, UTF_8);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, UTF_8));
        for (String line; (line = in.readLine()) != null; ) {
            String[] words = line.split("\t");
            String said;
            try {
                said = "ok\t" + caller.take(words[0], Arrays.copyOfRange(words, 1, words.length));
            } catch (Exception error) {
                said = "error\t" + error;
            }
            out.println(said.replace('\n', ' '));
        }
    }
}
