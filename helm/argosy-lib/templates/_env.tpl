{{/* One value that Kubernetes reads from the Secret: name, root, and the key. */}}
{{- define "argosy-lib.secretEnv" -}}
- name: {{ .variable }}
  valueFrom: { secretKeyRef: { name: {{ .root.Values.global.secret.name }}, key: {{ .key }} } }
{{- end }}

{{/* A value as a setting's text. Numbers in values are floating-point to Helm, which would write 10485760 as 1.048576e+07. */}}
{{- define "argosy-lib.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . | toString | quote }}{{ else }}{{ toString . | quote }}{{ end }}
{{- end }}

{{/* The settings of a service. With `owner`, also the connection URL of the owner role, for migrations alone. */}}
{{- define "argosy-lib.env" -}}
{{- $global := .root.Values.global }}
{{- $prefix := include "argosy-lib.prefix" . }}
{{- $secret := dict "root" .root }}
- { name: {{ $prefix }}_OPS__HOST, value: "0.0.0.0" }
- { name: {{ $prefix }}_OPS__PORT, value: "9090" }
- { name: {{ $prefix }}_TELEMETRY__LOG_LEVEL, value: {{ $global.logLevel | quote }} }
{{- if $global.tracing.otlpEndpoint }}
- { name: {{ $prefix }}_TELEMETRY__OTLP_ENDPOINT, value: {{ $global.tracing.otlpEndpoint | quote }} }
- { name: {{ $prefix }}_TELEMETRY__SAMPLE_RATIO, value: {{ $global.tracing.sampleRatio | quote }} }
{{- end }}
- { name: {{ $prefix }}_DRAIN, value: {{ .root.Values.drainSeconds | quote }} }
{{ include "argosy-lib.secretEnv" (merge (dict "variable" (printf "%s_PRINCIPAL__SECRETS" $prefix) "key" "principal-secrets") $secret) }}
{{- if .grpc }}
- { name: {{ $prefix }}_GRPC__BIND, value: "0.0.0.0:9000" }
{{- end }}
{{- range .calls }}
- { name: {{ $prefix }}_PEERS__{{ . | upper | replace "-" "_" }}, value: "{{ $.root.Release.Name }}-{{ . }}:9000" }
{{- end }}
{{- if has "postgres" .stores }}
{{ include "argosy-lib.secretEnv" (merge (dict "variable" (printf "%s_POSTGRES__DSN" $prefix) "key" (printf "%s-dsn" .name)) $secret) }}
- { name: {{ $prefix }}_POSTGRES__POOL_SIZE, value: {{ $global.postgres.poolSize | quote }} }
- { name: {{ $prefix }}_POSTGRES__POOLING, value: {{ $global.postgres.pooling | quote }} }
{{- if .owner }}
{{ include "argosy-lib.secretEnv" (merge (dict "variable" (printf "%s_POSTGRES__OWNER_DSN" $prefix) "key" (printf "%s-owner-dsn" .name)) $secret) }}
{{- end }}
{{- end }}
{{- if has "redis" .stores }}
{{ include "argosy-lib.secretEnv" (merge (dict "variable" (printf "%s_REDIS__URL" $prefix) "key" "redis-url") $secret) }}
{{- end }}
{{- if has "kafka" .stores }}
{{ include "argosy-lib.kafkaEnv" (dict "root" .root "prefix" (printf "%s_KAFKA__" $prefix)) }}
{{- end }}
{{- with .env }}
{{ tpl . $.root | trim }}
{{- end }}
{{- range $variable, $value := .root.Values.env }}
- { name: {{ $variable }}, value: {{ include "argosy-lib.text" $value }} }
{{- end }}
{{- range $variable, $key := .root.Values.secretEnv }}
{{ include "argosy-lib.secretEnv" (merge (dict "variable" $variable "key" $key) $secret) }}
{{- end }}
{{- end }}

{{- define "argosy-lib.kafkaEnv" -}}
{{- $kafka := .root.Values.global.kafka }}
- { name: {{ .prefix }}BOOTSTRAP, value: {{ required "global.kafka.bootstrap: name the brokers, host:port and separated by commas" $kafka.bootstrap | quote }} }
- { name: {{ .prefix }}SECURITY_PROTOCOL, value: {{ $kafka.securityProtocol | quote }} }
{{- if hasPrefix "SASL" $kafka.securityProtocol }}
- { name: {{ .prefix }}SASL_MECHANISM, value: {{ $kafka.saslMechanism | quote }} }
- { name: {{ .prefix }}SASL_USERNAME, value: {{ required "global.kafka.saslUsername: SASL needs a user" $kafka.saslUsername | quote }} }
{{ include "argosy-lib.secretEnv" (dict "root" .root "variable" (printf "%sSASL_PASSWORD" .prefix) "key" $kafka.saslPasswordKey) }}
{{- end }}
{{- if $kafka.caSecret }}
- { name: {{ .prefix }}CA_FILE, value: /etc/argosy/kafka/ca.crt }
{{- end }}
{{ include "argosy-lib.secretEnv" (dict "root" .root "variable" (printf "%sSIGNING_KEYS" .prefix) "key" "signing-keys") }}
{{- end }}
