{{/*
All objects of a service. Context:
  root     the chart's own context        name     the service, as its folder and image
  grpc     whether it serves gRPC         ports    further ports: name, port
  calls    services that it calls         calledBy services that call it
  stores   postgres, redis, kafka         env      a template of settings that only it has
  public   whether callers outside of the release reach its ports
  token    whether its pods call the Kubernetes API
*/}}
{{- define "argosy-lib.service" -}}
{{- $context := merge (dict "workload" (include "argosy-lib.fullname" .) "replicas" .root.Values.replicas "scaling" .root.Values.autoscaling) . }}
{{- include "argosy-lib.shared" $context }}
---
{{ include "argosy-lib.deployment" $context }}
---
{{ include "argosy-lib.disruptionBudget" $context }}
{{- if include "argosy-lib.scaled" $context }}
---
{{ include "argosy-lib.cpuAutoscaler" $context }}
{{- end }}
{{- end }}

{{/* What a service has once, however many Deployments it has. */}}
{{- define "argosy-lib.shared" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "argosy-lib.fullname" . }}
  labels: {{- include "argosy-lib.labels" . | nindent 4 }}
  {{- with .root.Values.serviceAccount.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
---
apiVersion: v1
kind: Service
metadata:
  name: {{ include "argosy-lib.fullname" . }}
  labels: {{- include "argosy-lib.labels" . | nindent 4 }}
spec:
  {{- if .grpc }}
  # Headless: clients resolve all replicas and balance their streams by themselves.
  clusterIP: None
  {{- end }}
  selector: {{- include "argosy-lib.selector" . | nindent 4 }}
    {{- with .pool }}
    argosy.dev/pool: {{ . }}
    {{- end }}
  ports:
    - { name: ops, port: 9090, targetPort: ops }
    {{- if .grpc }}
    - { name: grpc, port: 9000, targetPort: grpc, appProtocol: kubernetes.io/h2c }
    {{- end }}
    {{- range .ports }}
    - { name: {{ .name }}, port: {{ .port }}, targetPort: {{ .name }} }
    {{- end }}
{{- if .root.Values.global.networkPolicy.enabled }}
---
{{ include "argosy-lib.networkPolicy" . }}
{{- end }}
{{- if .root.Values.global.monitoring.serviceMonitor }}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include "argosy-lib.fullname" . }}
  labels: {{- include "argosy-lib.labels" . | nindent 4 }}
    {{- with .root.Values.global.monitoring.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels: {{- include "argosy-lib.selector" . | nindent 6 }}
  endpoints:
    - { port: ops, path: /metrics, interval: {{ .root.Values.global.monitoring.interval }} }
{{- end }}
{{- if has "postgres" .stores }}
---
{{ include "argosy-lib.job" (merge (dict "task" "migrate" "arguments" (list "migrate") "hook" "pre-install,pre-upgrade" "weight" "0" "owner" true) .) }}
{{- end }}
{{- end }}

{{- define "argosy-lib.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .workload }}
  labels: {{- include "argosy-lib.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "argosy-lib.selector" . | nindent 6 }}
      {{- with .pool }}
      argosy.dev/pool: {{ . }}
      {{- end }}
{{- end }}
