{{- /* What the operator may do with the objects in a watched namespace. Argument: namespace, empty for every one. */ -}}
{{- define "gbo.watchRules" -}}
# The controller's watch, and the look at the start whether the kind is there. `get`: is the object still as it was before
# the lock of its cluster is taken, does the holder of a lock still need it, is a point still one that its schedule may
# remove, and whose is an object that has the name of a schedule's next backup?
- apiGroups: [graphbackup.dev]
  resources: [graphbackups]
  verbs: [get, list, watch]
# `metadata.finalizers`: with `deletionPolicy: Delete` the object stays until its files are removed. A schedule also sets the
# annotation graphbackup.dev/prune on a point that no rule of its retention keeps.
- apiGroups: [graphbackup.dev]
  resources: [graphbackups]
  verbs: [patch]
# A schedule creates one for each slot and each request. It deletes a point that no rule of its retention keeps, a failed
# backup beyond `failedHistoryLimit`, one that makes way for the next (`concurrencyPolicy: Replace`), and its backups when it
# is deleted itself (`deletionPolicy: Delete`).
- apiGroups: [graphbackup.dev]
  resources: [graphbackups]
  verbs: [create, delete]
# The schedules' watch, and the look at the start whether the kind is there. `get`: is the schedule still as it was before a
# backup is created or removed?
- apiGroups: [graphbackup.dev]
  resources: [backupschedules]
  verbs: [get, list, watch]
# Only `metadata.finalizers`: with `deletionPolicy: Delete` a schedule stays until its points are marked for removal.
- apiGroups: [graphbackup.dev]
  resources: [backupschedules]
  verbs: [patch]
# The restores' watch, the look at the start whether the kind is there, and the live read of each pass.
- apiGroups: [graphbackup.dev]
  resources: [restores]
  verbs: [get, list, watch]
# Only `metadata.finalizers`: a restore that has begun is undone before it goes.
- apiGroups: [graphbackup.dev]
  resources: [restores]
  verbs: [patch]
# Conditions and facts: server-side apply on the status subresource.
- apiGroups: [graphbackup.dev]
  resources: [backupschedules/status, graphbackups/status, restores/status]
  verbs: [patch]
# One Job per attempt, question to the volume, removal of files, or restore drill: `create`, the watch that tells when it
# changed, the live read of what became of it, and `delete` of one that passed its deadline, cannot start, or belongs to a
# deleted object.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [create, delete, get, list, watch]
# The verdict is the termination message of the Job's pod, found by its labels; its state says why it cannot start.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Before a Job: is the target claim there?
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get]
# When the API server refuses something about a deleted object: is its namespace being deleted, too?
- apiGroups: [""]
  resources: [namespaces]
  {{- with .namespace }}
  resourceNames: [{{ . }}]
  {{- end }}
  verbs: [get]
# `method: Cold` stops one member: is the StatefulSet whole, and is the member gone? Its replicas are all that is ever
# changed, and they are put back.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get]
- apiGroups: [apps]
  resources: [statefulsets/scale]
  verbs: [patch]
# One Event per transition, and per slot that a schedule skips.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}
