{{/* The files of the Valkey that comes along: its configuration, how it starts, how it is asked whether it serves. */}}
{{- define "farebox.valkeyFiles" -}}
{{- $tls := .Values.store.valkey.tls.existingSecret -}}
valkey.conf: |
  {{- if $tls }}
  port 0
  tls-port 6379
  tls-cert-file /etc/farebox/tls/tls.crt
  tls-key-file /etc/farebox/tls/tls.key
  tls-ca-cert-file /etc/farebox/tls/ca.crt
  tls-auth-clients no
  {{- else }}
  port 6379
  {{- end }}
  dir /data
  # Every step is in a log; a crash of the machine loses a second of it, which sidecars tell again.
  appendonly yes
  appendfsync everysec
  save ""
  # A budget that was forgotten would be a new one.
  maxmemory {{ .Values.store.valkey.maxMemory }}
  maxmemory-policy noeviction
  aclfile /data/users.acl
  tcp-keepalive 60
  # Scripts of sidecars take milliseconds. One that runs longer is ended by the operator, which must be heard for that.
  busy-reply-threshold 500
start.sh: |
  # The operator's user follows the Secret; users of namespaces, which the operator makes, stay as they are.
  set -eu
  umask 077
  hash=$(tr -d '\n' </etc/farebox/store/admin-password | sha256sum | cut -d' ' -f1)
  {
    echo "user default on #$hash ~* &* +@all"
    if [ -s /data/users.acl ]; then sed '/^user default /d' /data/users.acl; fi
  } >/data/users.acl.new
  mv /data/users.acl.new /data/users.acl
  server=$(command -v valkey-server || command -v redis-server)
  exec "$server" /etc/farebox/valkey/valkey.conf
ping.sh: |
  # While it reads its log it answers LOADING, and is not ready.
  set -eu
  REDISCLI_AUTH=$(cat /etc/farebox/store/admin-password)
  export REDISCLI_AUTH
  cli=$(command -v valkey-cli || command -v redis-cli)
  {{- if $tls }}
  # The server reads its certificate when it starts, and when it is told to, as here of a new one. One that it cannot use leaves it the
  # old one. It is in this pod, and may show a certificate of an authority that was replaced since: it is not checked.
  cd /etc/farebox/tls
  if ! sha256sum -c /data/tls.sums >/dev/null 2>&1; then
    sha256sum tls.crt tls.key ca.crt >/data/tls.sums.new
    if "$cli" --tls --insecure -p 6379 config set \
      tls-cert-file "$PWD/tls.crt" tls-key-file "$PWD/tls.key" tls-ca-cert-file "$PWD/ca.crt" | grep -q OK; then
      mv /data/tls.sums.new /data/tls.sums
    fi
  fi
  {{- end }}
  "$cli" {{ if $tls }}--tls --insecure {{ end }}-p 6379 ping | grep -q PONG
{{- end }}
