#!/bin/sh
# One HTTP answer on standard input and output: the whole request is read before anything is said.
read -r request
while read -r header && [ "$header" != "$(printf '\r')" ]; do :; done
body="hello from the server, you asked: $(printf '%s' "$request" | cut -d' ' -f1-2)"
printf 'HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s\n' "$((${#body} + 1))" "$body"
