{{/* Labels of every object. No version among them: an upgrade changes what it must and nothing more. */}}
{{- define "farebox.labels" -}}
{{- include "farebox.labelsWith" (list . dict) }}
{{- end }}

{{/* The same for an object with further ones of its own, which win over all but those by which it is selected. Takes [root, labels]. */}}
{{- define "farebox.labelsWith" -}}
{{- $root := index . 0 -}}
{{- $own := index . 1 | default dict -}}
app.kubernetes.io/name: farebox
app.kubernetes.io/instance: {{ with get $own "app.kubernetes.io/instance" }}{{ . | quote }}{{ else }}{{ $root.Release.Name }}{{ end }}
app.kubernetes.io/part-of: {{ with get $own "app.kubernetes.io/part-of" }}{{ . | quote }}{{ else }}farebox{{ end }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- $further := merge dict $own ($root.Values.commonLabels | default dict) }}
{{- range list "name" "instance" "part-of" "managed-by" "component" }}
{{- $further = omit $further (printf "app.kubernetes.io/%s" .) }}
{{- end }}
{{- with $further }}
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
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Where pods run. Takes values with these names. */}}
{{- define "farebox.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
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
      - {{ . | quote }}
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
{{- if and .Values.certificates.existingSecret (not .Values.certificates.caBundle) -}}
{{- fail "certificates.caBundle must hold the CA of certificates.existingSecret, in PEM: without it the API server would not trust the webhook" -}}
{{- end -}}
{{- if and .Values.certificates.caBundle (not .Values.certificates.existingSecret) -}}
{{- fail "certificates.caBundle goes with certificates.existingSecret alone: without that, the operator or cert-manager says what the API server trusts" -}}
{{- end -}}
{{- if or .Values.certificates.certManager.enabled .Values.certificates.existingSecret }}yes{{ end -}}
{{- end }}

{{/*
As JSON. The operator takes no limit below its request, and would end at its start; of what is not given it assumes nothing that it would
refuse.
*/}}
{{- define "farebox.sidecarResources" -}}
{{- $resources := .Values.sidecar.resources | default dict -}}
{{- range $name := list "cpu" "memory" -}}
{{- $request := get ($resources.requests | default dict) $name -}}
{{- $limit := get ($resources.limits | default dict) $name -}}
{{- if and $request $limit (lt (include "farebox.amount" $limit | float64) (include "farebox.amount" $request | float64)) -}}
{{- fail (printf "sidecar.resources.limits.%s must not be below sidecar.resources.requests.%s: %v is below %v" $name $name $limit $request) -}}
{{- end -}}
{{- end -}}
{{ toJson $resources }}
{{- end }}

{{/* A quantity as a number: of the suffixes that values.schema.json lets pass. */}}
{{- define "farebox.amount" -}}
{{- if kindIs "string" . -}}
{{- $factors := dict "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{ mulf (regexFind "^[0-9.]+" .) (get $factors (regexFind "[A-Za-z]+$" .) | default 1) }}
{{- else -}}
{{ float64 . }}
{{- end -}}
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
{{- else if .Values.store.redis.existingSecret -}}
{{- fail "store.redis.existingSecret needs store.redis.address: without one, the store is the chart's Valkey, or each budget names its own" -}}
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
