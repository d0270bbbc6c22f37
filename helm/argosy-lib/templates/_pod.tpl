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

{{- define "argosy-lib.mounts" -}}
- { name: tmp, mountPath: /tmp }
{{- if and (has "kafka" .stores) .root.Values.global.kafka.caSecret }}
- { name: kafka-ca, mountPath: /etc/argosy/kafka, readOnly: true }
{{- end }}
{{- with .root.Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "argosy-lib.volumes" -}}
- name: tmp
  emptyDir: { sizeLimit: {{ .root.Values.tmpSize }} }
{{- if and (has "kafka" .stores) .root.Values.global.kafka.caSecret }}
- name: kafka-ca
  secret: { secretName: {{ .root.Values.global.kafka.caSecret }}, items: [{ key: ca.crt, path: ca.crt }] }
{{- end }}
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
