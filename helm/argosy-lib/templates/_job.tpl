{{/*
A Job that Helm runs as a hook, from the image of the service. Context: that of the service, and
  task  arguments  hook  weight  owner (whether it gets the owner's connection URL)  secrets (variable: key)
  configMap (mounted at /etc/argosy/files)
It runs as the namespace's default ServiceAccount, because hooks run before the release's own objects exist.
*/}}
{{- define "argosy-lib.job" -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "argosy-lib.fullname" . }}-{{ .task }}
  labels: {{- include "argosy-lib.labels" . | nindent 4 }}
  annotations:
    helm.sh/hook: {{ .hook }}
    helm.sh/hook-weight: {{ .weight | quote }}
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  {{- include "argosy-lib.jobSpec" . | nindent 2 }}
{{- end }}

{{/*
A CronJob from the image of the service. Context: that of argosy-lib.job without the hook, and
  schedule  in the notation of cron, in UTC    deadline  seconds after which a run is ended
*/}}
{{- define "argosy-lib.cronJob" -}}
apiVersion: batch/v1
kind: CronJob
metadata:
  {{- /* Kubernetes allows 52 characters, as the names of its jobs end with their time. */}}
  name: {{ printf "%s-%s" (include "argosy-lib.fullname" .) .task | trunc 52 | trimSuffix "-" }}
  labels: {{- include "argosy-lib.labels" . | nindent 4 }}
spec:
  schedule: {{ .schedule | quote }}
  timeZone: Etc/UTC
  concurrencyPolicy: Forbid
  # A run that could not start in time is left to the next day.
  startingDeadlineSeconds: 3600
  successfulJobsHistoryLimit: 1
  failedJobsHistoryLimit: 3
  jobTemplate:
    metadata:
      labels: {{- include "argosy-lib.labels" . | nindent 8 }}
    spec:
      {{- include "argosy-lib.jobSpec" . | nindent 6 }}
{{- end }}

{{/* What a Job and a CronJob run. Context: theirs. */}}
{{- define "argosy-lib.jobSpec" -}}
backoffLimit: 4
activeDeadlineSeconds: {{ .deadline | default .root.Values.global.hookDeadlineSeconds | int64 }}
template:
  metadata:
    labels:
      app.kubernetes.io/name: {{ .name }}-{{ .task }}
      app.kubernetes.io/instance: {{ .root.Release.Name }}
      app.kubernetes.io/part-of: argosy
      argosy.dev/hook: {{ .task }}
  spec:
    restartPolicy: Never
    {{- include "argosy-lib.podSecurity" . | nindent 4 }}
    containers:
      - name: {{ .task }}
        {{- include "argosy-lib.containerSecurity" . | nindent 8 }}
        args: {{ .arguments | toJson }}
        env:
          {{- include "argosy-lib.env" . | trim | nindent 10 }}
          {{- range $variable, $key := .secrets }}
          {{- include "argosy-lib.secretEnv" (dict "root" $.root "variable" $variable "key" $key) | nindent 10 }}
          {{- end }}
        resources: { requests: { cpu: 20m, memory: 96Mi }, limits: { memory: 512Mi } }
        volumeMounts:
          - { name: tmp, mountPath: /tmp }
          {{- with include "argosy-lib.caMounts" . | trim }}
          {{- . | nindent 10 }}
          {{- end }}
          {{- if .configMap }}
          - { name: files, mountPath: /etc/argosy/files, readOnly: true }
          {{- end }}
    volumes:
      - name: tmp
        emptyDir: { sizeLimit: 64Mi }
      {{- with include "argosy-lib.caVolumes" . | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with .configMap }}
      - name: files
        configMap: { name: {{ . }} }
      {{- end }}
{{- end }}
