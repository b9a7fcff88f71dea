/**
 * Links that their host has signed, for a time: an app that signs them anew for each call means the same file by them. So in names
 * a link counts without what signs it. All else in a query may say which file is meant (`?id=7`), and counts.
 */
import { isList, isObject, parseObject } from './message.ts'
import type { Json, JsonObject } from './request.ts'

/** One way to sign: where all the `marks` are in a query (in small letters), what is in `fields` signs it. */
interface Signing {
  readonly marks: readonly string[]
  readonly fields: RegExp
}

const SIGNINGS: readonly Signing[] = [
  // S3, and what speaks it. https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
  { marks: ['x-amz-signature'], fields: /^x-amz-/ },
  // Google Cloud Storage. https://cloud.google.com/storage/docs/authentication/canonical-requests
  { marks: ['x-goog-signature'], fields: /^x-goog-/ },
  // Azure. https://learn.microsoft.com/en-us/rest/api/storageservices/create-user-delegation-sas
  {
    marks: ['sig', 'sv'],
    fields: /^(?:s[eiprstv]|ses|sig|sip|spr|srt|sdd|sduoid|skoid|sktid|skdutid|sk[estv]|saoid|suoid|scid)$/,
  },
  // Alibaba Cloud. https://www.alibabacloud.com/help/en/oss/developer-reference/add-signatures-to-urls
  {
    marks: ['x-oss-signature'],
    fields: /^x-oss-(?:signature(?:-version)?|credential|date|expires|security-token|additional-headers)$/,
  },
  // Tencent Cloud. https://www.tencentcloud.com/document/product/436/7778
  {
    marks: ['q-signature'],
    fields: /^(?:q-(?:sign-algorithm|ak|sign-time|key-time|header-list|url-param-list|signature)|x-cos-security-token)$/,
  },
  // CloudFront. https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-signed-urls.html
  { marks: ['signature', 'key-pair-id'], fields: /^(?:signature|expires|policy|key-pair-id|hash-algorithm)$/ },
  // The first way of the stores above, and that of frameworks. https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html
  {
    marks: ['signature', 'expires'],
    fields: /^(?:signature|expires|awsaccesskeyid|googleaccessid|ossaccesskeyid|security-token|x-amz-security-token)$/,
  },
  // Attachments of Discord. https://docs.discord.com/developers/reference#signed-attachment-cdn-urls
  { marks: ['ex', 'is', 'hm'], fields: /^(?:ex|is|hm)$/ },
]

/** The longest link that is looked at, in UTF-16 units: a session token alone takes 2,000. */
const LINK_UNITS_MAX = 16 * 1024
const LINK = /^https?:\/\//i

/** A text that is a signed link without what signs it; any other as it is. */
export function withoutSignature(text: string): string {
  if (text.length > LINK_UNITS_MAX || !LINK.test(text)) return text
  const start = text.indexOf('?')
  const hash = text.indexOf('#')
  if (start < 0 || (hash >= 0 && hash < start)) return text
  const end = hash < 0 ? text.length : hash
  const members = text
    .slice(start + 1, end)
    .split('&')
    .map((member) => ({ member, name: nameOf(member) }))
  const names = new Set(members.map(({ name }) => name))
  const signings = SIGNINGS.filter(({ marks }) => marks.every((mark) => names.has(mark)))
  if (signings.length === 0) return text
  const rest = members.filter(({ name }) => !signings.some(({ fields }) => fields.test(name))).map(({ member }) => member)
  return `${text.slice(0, start)}${rest.length === 0 ? '' : `?${rest.join('&')}`}${text.slice(end)}`
}

function nameOf(member: string): string {
  const equals = member.indexOf('=')
  return (equals < 0 ? member : member.slice(0, equals)).toLowerCase()
}

/**
 * JSON objects in a text, with a comma between, that hold signed links of `source` (the message that they are of, as it came now): with the
 * signatures that those have now, since earlier ones may be past. The same text where nothing in it changes.
 */
export function signedAs(text: string, source: JsonObject): string {
  if (!text.includes('http')) return text
  const links = new Map<string, string>()
  mapTexts(source, (value) => {
    const bare = withoutSignature(value)
    if (bare !== value) links.set(bare, value)
    return value
  })
  const written = links.size === 0 ? null : parseObject(`{"all":[${text}]}`)
  if (written === null) return text
  let isChanged = false
  const signed = mapTexts(written['all'] ?? null, (value) => {
    const bare = withoutSignature(value)
    const now = bare === value ? value : (links.get(bare) ?? value)
    isChanged ||= now !== value
    return now
  })
  return isChanged ? JSON.stringify(signed).slice(1, -1) : text
}

function mapTexts(value: Json, map: (text: string) => string): Json {
  if (typeof value === 'string') return map(value)
  if (isList(value)) return value.map((item) => mapTexts(item, map))
  if (!isObject(value)) return value
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, mapTexts(field ?? null, map)]))
}
