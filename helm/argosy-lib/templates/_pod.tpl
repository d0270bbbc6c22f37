{{/* What the level `restricted` of Pod Security asks for, for pods and for containers. */}}
{{- define "argosy-lib.podSecurity" -}}
{{- /* Hooks take the namespace's default account, and need no token. */ -}}
automountServiceAccountToken: {{ if and .token (not .hook) }}true{{ else }}false{{ end }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: { type: RuntimeDefault }
{{- with .root.Values.global.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "argosy-lib.containerSecurity" -}}
image: {{ include "argosy-lib.image" . }}
imagePullPolicy: {{ .root.Values.global.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}

{{/*
The certificates that stores are verified against, for every pod that has a store's address, hooks included: a service
refuses to start with an address whose certificates it cannot read.
*/}}
{{- define "argosy-lib.caMounts" -}}
{{- range .stores }}
{{- if (index $.root.Values.global .).caSecret }}
- { name: {{ . }}-ca, mountPath: /etc/argosy/{{ . }}, readOnly: true }
{{- end }}
{{- end }}
{{- end }}

{{- define "argosy-lib.caVolumes" -}}
{{- range $store := .stores }}
{{- with (index $.root.Values.global $store).caSecret }}
- name: {{ $store }}-ca
  secret: { secretName: {{ . }}, items: [{ key: ca.crt, path: ca.crt }] }
{{- end }}
{{- end }}
{{- end }}

{{- define "argosy-lib.mounts" -}}
- { name: tmp, mountPath: /tmp }
{{- include "argosy-lib.caMounts" . }}
{{- with .root.Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "argosy-lib.volumes" -}}
- name: tmp
  emptyDir: { sizeLimit: {{ .root.Values.tmpSize }} }
{{- include "argosy-lib.caVolumes" . }}
{{- with .root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* One zone or node that fails should not take all replicas; a cluster without spare nodes still runs them. */}}
{{- define "argosy-lib.placement" -}}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "argosy-lib.selector" $ | nindent 8 }}
        {{- with $.pool }}
        argosy.dev/pool: {{ . }}
        {{- end }}
  {{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}
