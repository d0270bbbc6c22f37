{{/* Allows what the service needs; the umbrella's default-deny policy forbids the rest. */}}
{{- define "argosy-lib.networkPolicy" -}}
{{- $policy := .root.Values.global.networkPolicy }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "argosy-lib.fullname" . }}
  labels: {{- include "argosy-lib.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "argosy-lib.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - ports: [{ port: ops }]
      from:
        - podSelector: { matchLabels: { argosy.dev/hook: test, app.kubernetes.io/instance: {{ .root.Release.Name }} } }
        {{- with $policy.monitoringFrom }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- if .calledBy }}
    - ports: [{ port: grpc }]
      from:
        {{- range .calledBy }}
        - podSelector: { matchLabels: { app.kubernetes.io/name: {{ . }}, app.kubernetes.io/instance: {{ $.root.Release.Name }} } }
        {{- end }}
    {{- end }}
    {{- range .ports }}
    - ports: [{ port: {{ .name }} }]
      {{- with .from }}
      from: {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
  egress:
    - ports: [{ port: 53, protocol: UDP }, { port: 53, protocol: TCP }]
    {{- range .calls }}
    - ports: [{ port: 9000 }]
      to: [{ podSelector: { matchLabels: { app.kubernetes.io/name: {{ . }}, app.kubernetes.io/instance: {{ $.root.Release.Name }} } } }]
    {{- end }}
    {{- range .stores }}
    {{- include "argosy-lib.storeEgress" (index $policy.stores .) | nindent 4 }}
    {{- end }}
    {{- with $policy.tracing }}
    {{- if $.root.Values.global.tracing.otlpEndpoint }}
    {{- include "argosy-lib.storeEgress" . | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- if .token }}
    {{- include "argosy-lib.storeEgress" .root.Values.global.runtimePools.apiServer | nindent 4 }}
    {{- end }}
    {{- with .root.Values.egress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "argosy-lib.storeEgress" -}}
- ports:
    {{- range .ports }}
    - { port: {{ . }} }
    {{- end }}
  {{- with .to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
