{{/* Scales down slowly: a replica that drains has work to finish, and load often comes back. */}}
{{- define "argosy-lib.scalingBehavior" -}}
scaleUp: { stabilizationWindowSeconds: 0, policies: [{ type: Percent, value: 100, periodSeconds: 15 }, { type: Pods, value: 4, periodSeconds: 15 }] }
scaleDown: { stabilizationWindowSeconds: {{ .root.Values.global.autoscaling.scaleDownSeconds }}, policies: [{ type: Percent, value: 50, periodSeconds: 60 }] }
{{- end }}

{{- define "argosy-lib.cpuAutoscaler" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ .workload }}
  labels: {{- include "argosy-lib.labels" . | nindent 4 }}
spec:
  scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: {{ .workload }} }
  minReplicas: {{ .scaling.minReplicas }}
  maxReplicas: {{ .scaling.maxReplicas }}
  metrics:
    - type: Resource
      resource: { name: cpu, target: { type: Utilization, averageUtilization: {{ .scaling.cpuPercent }} } }
  behavior: {{- include "argosy-lib.scalingBehavior" . | nindent 4 }}
{{- end }}

{{/* Workers of a pool, by what waits in its queues. Context: that of the Deployment, and `slots`. */}}
{{- define "argosy-lib.queueAutoscaler" -}}
{{- if eq .root.Values.global.autoscaling.mode "keda" }}
{{- if not (.root.Capabilities.APIVersions.Has "keda.sh/v1alpha1/ScaledObject") }}
{{- fail "global.autoscaling.mode is keda, and the cluster has no ScaledObject (keda.sh/v1alpha1). Install KEDA first, or set global.autoscaling.mode to hpa or none." }}
{{- end }}
{{- include "argosy-lib.scaledObject" . }}
{{- else }}
{{- include "argosy-lib.queueHpa" . }}
{{- end }}
{{- end }}

{{- define "argosy-lib.scaledObject" -}}
{{- $address := printf "%s-orchestrator-scaler.%s:9010" .root.Release.Name .root.Release.Namespace -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ .workload }}
  labels: {{- include "argosy-lib.labels" . | nindent 4 }}
spec:
  scaleTargetRef: { name: {{ .workload }} }
  pollingInterval: {{ .root.Values.global.autoscaling.pollingSeconds }}
  # From one replica to none, in a pool that may have none.
  cooldownPeriod: 300
  minReplicaCount: {{ .scaling.minReplicas }}
  maxReplicaCount: {{ .scaling.maxReplicas }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior: {{- include "argosy-lib.scalingBehavior" . | nindent 8 }}
  # No fallback: while the scaler answers an error, the pool keeps its size.
  triggers:
    - type: external
      metadata: { scalerAddress: {{ $address | quote }}, pool: {{ .pool | quote }}, metric: jobs, target: {{ .slots | quote }} }
    {{- with .scaling.targetSeconds }}
    - type: external
      metadata: { scalerAddress: {{ $address | quote }}, pool: {{ $.pool | quote }}, metric: work_seconds, target: {{ mul . $.slots | quote }} }
    {{- end }}
{{- end }}

{{/* The metric is made by the rules in helm/prometheus-adapter-rules.yaml. */}}
{{- define "argosy-lib.queueHpa" -}}
{{- if not .scaling.minReplicas }}
{{- fail (printf "pool %s: minReplicas 0 needs global.autoscaling.mode keda; a HorizontalPodAutoscaler has at least 1" .pool) }}
{{- end -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ .workload }}
  labels: {{- include "argosy-lib.labels" . | nindent 4 }}
spec:
  scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: {{ .workload }} }
  minReplicas: {{ .scaling.minReplicas }}
  maxReplicas: {{ .scaling.maxReplicas }}
  metrics:
    - type: External
      external:
        metric: { name: argosy_unfinished_jobs, selector: { matchLabels: { pool: {{ .pool | quote }} } } }
        target: { type: AverageValue, averageValue: {{ .slots | quote }} }
  behavior: {{- include "argosy-lib.scalingBehavior" . | nindent 4 }}
{{- end }}
