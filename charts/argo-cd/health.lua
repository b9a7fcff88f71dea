-- Health of PricingTier, ConversationBudget and PriceBook for Argo CD, by their conditions. A budget that is used up is healthy: refusing
-- calls is what it is for. So is one that is in force and not Ready, for its pods or their store: a sync that waited for that in an earlier
-- wave would hold back the very Deployment that brings it right. The message says what is amiss.
local function said(condition)
  if condition.reason ~= nil and condition.message ~= nil then
    return condition.reason .. ": " .. condition.message
  end
  return condition.message or condition.reason or condition.type
end

local status = obj.status
if status == nil or status.conditions == nil then
  return { status = "Progressing", message = "the operator has not looked at it yet" }
end
if obj.metadata.generation ~= nil and (status.observedGeneration or 0) < obj.metadata.generation then
  return { status = "Progressing", message = "the operator has not seen the last change yet" }
end

local found = {}
for _, condition in ipairs(status.conditions) do
  found[condition.type] = condition
end
if found.Stalled ~= nil and found.Stalled.status == "True" then
  return { status = "Degraded", message = said(found.Stalled) }
end
if found.Reconciling ~= nil and found.Reconciling.status == "True" then
  return { status = "Progressing", message = said(found.Reconciling) }
end
if found.Ready == nil or found.Ready.status == "Unknown" then
  return { status = "Progressing", message = "not known to be ready" }
end
if found.Ready.status == "True" then
  return { status = "Healthy", message = said(found.Ready) }
end
if found.Programmed ~= nil and found.Programmed.status == "True" then
  return { status = "Healthy", message = "in force, but not ready: " .. said(found.Ready) }
end
return { status = "Degraded", message = said(found.Ready) }
