{{/* Labels of every object. No version among them: an upgrade changes what it must and nothing more. */}}
{{- define "farebox.labels" -}}
app.kubernetes.io/name: farebox
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: farebox
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What selects the pods of a component, and never changes. Takes a component. */}}
{{- define "farebox.selector" -}}
app.kubernetes.io/name: farebox
app.kubernetes.io/component: {{ . }}
{{- end }}

{{/* Repository with its registry. Takes [root, image]. */}}
{{- define "farebox.repository" -}}
{{- $root := index . 0 -}}{{- $image := index . 1 -}}
{{- with $root.Values.imageRegistry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.repository }}
{{- end }}

{{/* An image by digest or tag. Takes [root, image]. */}}
{{- define "farebox.image" -}}
{{- $root := index . 0 -}}{{- $image := index . 1 -}}
{{- include "farebox.repository" . }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* Of each of our containers. */}}
{{- define "farebox.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
{{- end }}

{{- define "farebox.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Where pods run. Takes values with these names. */}}
{{- define "farebox.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Namespaces whose pods are looked at. */}}
{{- define "farebox.namespaceSelector" -}}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values:
      {{- range concat (list .Release.Namespace) .Values.webhook.excludedNamespaces | uniq }}
      - {{ . }}
      {{- end }}
{{- end }}

{{/* Names that the certificate of the operator is for, the first one for clients. */}}
{{- define "farebox.host" -}}
farebox-operator.{{ .Release.Namespace }}.svc
{{- end }}
{{- define "farebox.tlsNames" -}}
{{ include "farebox.host" . }},farebox-operator.{{ .Release.Namespace }}.svc.cluster.local,farebox-operator.{{ .Release.Namespace }},farebox-operator
{{- end }}
{{- define "farebox.tlsSecret" -}}
{{ .Values.certificates.existingSecret | default "farebox-tls" }}
{{- end }}
{{- define "farebox.isTlsGiven" -}}
{{- if and .Values.certificates.certManager.enabled .Values.certificates.existingSecret -}}
{{- fail "certificates.certManager.enabled and certificates.existingSecret exclude each other: who issues the certificate?" -}}
{{- end -}}
{{- if or .Values.certificates.certManager.enabled .Values.certificates.existingSecret }}yes{{ end -}}
{{- end }}

{{/* Not empty when the Valkey of this chart is the store. */}}
{{- define "farebox.hasValkey" -}}
{{- if and .Values.store.valkey.enabled (not .Values.store.redis.address) }}yes{{ end -}}
{{- end }}
{{- define "farebox.storeAddress" -}}
{{- if .Values.store.redis.address -}}
{{ .Values.store.redis.address }}
{{- else if .Values.store.valkey.enabled -}}
{{ ternary "rediss" "redis" (ne .Values.store.valkey.tls.existingSecret "") }}://farebox-valkey.{{ .Release.Namespace }}.svc:6379
{{- end -}}
{{- end }}
{{- define "farebox.storeSecret" -}}
{{- if .Values.store.redis.address -}}
{{ required "store.redis.existingSecret must name a Secret with admin-password and root-key, since store.redis.address is set" .Values.store.redis.existingSecret }}
{{- else -}}
farebox-store
{{- end -}}
{{- end }}

{{/* The Secret whose ca.crt says whom to trust for the store; empty without TLS. */}}
{{- define "farebox.storeTrust" -}}
{{- if hasPrefix "rediss://" .Values.store.redis.address -}}
{{ include "farebox.storeSecret" . }}
{{- else if include "farebox.hasValkey" . -}}
{{ .Values.store.valkey.tls.existingSecret }}
{{- end -}}
{{- end }}

{{/* Our service account as the API server sees it. */}}
{{- define "farebox.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:farebox-operator
{{- end }}
