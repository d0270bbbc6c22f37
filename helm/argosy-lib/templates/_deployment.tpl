{{/* Context: that of the service, and `workload` (name), `replicas`, `scaling`, `pool` (inference-worker alone). */}}
{{- define "argosy-lib.deployment" -}}
{{- $values := .root.Values }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .workload }}
  labels: {{- include "argosy-lib.labels" . | nindent 4 }}
spec:
  {{- if not (include "argosy-lib.scaled" .) }}
  replicas: {{ .replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  strategy: { type: RollingUpdate, rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } }
  selector:
    matchLabels: {{- include "argosy-lib.selector" . | nindent 6 }}
      {{- with .pool }}
      argosy.dev/pool: {{ . }}
      {{- end }}
  template:
    metadata:
      labels: {{- include "argosy-lib.labels" . | nindent 8 }}
        {{- with .pool }}
        argosy.dev/pool: {{ . }}
        {{- end }}
      annotations:
        # A changed Secret does not restart pods: raise global.secret.revision, or annotate them.
        argosy.dev/secret-revision: {{ $values.global.secret.revision | quote }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "argosy-lib.fullname" . }}
      {{- include "argosy-lib.podSecurity" . | nindent 6 }}
      # Endpoints forget the pod first, then the service drains, then it closes its clients.
      terminationGracePeriodSeconds: {{ add $values.drainSeconds $values.global.endpointSeconds 10 }}
      {{- include "argosy-lib.placement" . | nindent 6 }}
      containers:
        - name: {{ .name }}
          {{- include "argosy-lib.containerSecurity" . | nindent 10 }}
          env:
            {{- include "argosy-lib.env" . | trim | nindent 12 }}
            {{- with .poolEnv }}
            {{- . | nindent 12 }}
            {{- end }}
          ports:
            - { name: ops, containerPort: 9090 }
            {{- if .grpc }}
            - { name: grpc, containerPort: 9000 }
            {{- end }}
            {{- range .ports }}
            - { name: {{ .name }}, containerPort: {{ .port }} }
            {{- end }}
          # Live: the event loop turns. Ready: it serves, and what it cannot do without answers.
          startupProbe: { httpGet: { path: /healthz, port: ops }, periodSeconds: 2, failureThreshold: 60 }
          livenessProbe: { httpGet: { path: /healthz, port: ops }, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 3 }
          readinessProbe: { httpGet: { path: /readyz, port: ops }, periodSeconds: 5, timeoutSeconds: 3, failureThreshold: 2 }
          lifecycle: { preStop: { exec: { command: [sleep, {{ $values.global.endpointSeconds | quote }}] } } }
          resources: {{- toYaml $values.resources | nindent 12 }}
          volumeMounts:
            {{- include "argosy-lib.mounts" . | nindent 12 }}
      volumes:
        {{- include "argosy-lib.volumes" . | nindent 8 }}
{{- end }}
