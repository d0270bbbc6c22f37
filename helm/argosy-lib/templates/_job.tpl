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
  backoffLimit: 4
  activeDeadlineSeconds: {{ .root.Values.global.hookDeadlineSeconds }}
  template:
    metadata:
      labels:
        app.kubernetes.io/name: {{ .name }}-{{ .task }}
        app.kubernetes.io/instance: {{ .root.Release.Name }}
        app.kubernetes.io/part-of: argosy
        argosy.dev/hook: {{ .task }}
    spec:
      restartPolicy: Never
      {{- include "argosy-lib.podSecurity" . | nindent 6 }}
      containers:
        - name: {{ .task }}
          {{- include "argosy-lib.containerSecurity" . | nindent 10 }}
          args: {{ .arguments | toJson }}
          env:
            {{- include "argosy-lib.env" . | trim | nindent 12 }}
            {{- range $variable, $key := .secrets }}
            {{- include "argosy-lib.secretEnv" (dict "root" $.root "variable" $variable "key" $key) | nindent 12 }}
            {{- end }}
          resources: { requests: { cpu: 20m, memory: 96Mi }, limits: { memory: 512Mi } }
          volumeMounts:
            - { name: tmp, mountPath: /tmp }
            {{- with include "argosy-lib.caMounts" . | trim }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- if .configMap }}
            - { name: files, mountPath: /etc/argosy/files, readOnly: true }
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: { sizeLimit: 64Mi }
        {{- with include "argosy-lib.caVolumes" . | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with .configMap }}
        - name: files
          configMap: { name: {{ . }} }
        {{- end }}
{{- end }}
