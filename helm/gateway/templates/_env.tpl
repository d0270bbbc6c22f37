{{- define "gateway.env" -}}
- { name: GATEWAY_HTTP__HOST, value: "0.0.0.0" }
- { name: GATEWAY_HTTP__TRUSTED_PROXIES, value: {{ .Values.trustedProxies | quote }} }
{{- if .Values.trustedProxies }}
# All clients share the addresses of the proxies.
- { name: GATEWAY_HTTP__MAX_CONNECTIONS_PER_ADDRESS, value: "0" }
{{- end }}
- { name: GATEWAY_KEYS__ENV, value: {{ .Values.global.environment | quote }} }
# With an autoscaler the most that it may run: while Redis is down, together they never allow more than the limit.
{{- $scaled := include "argosy-lib.scaled" (dict "root" . "scaling" .Values.autoscaling) }}
- { name: GATEWAY_RATES__REPLICAS, value: {{ ternary .Values.autoscaling.maxReplicas .Values.replicas (eq $scaled "true") | quote }} }
{{- end }}
