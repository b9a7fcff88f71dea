/** The query of a path, as its reader decodes it. https://cloud.google.com/apis/docs/system-parameters */

/** Its parameters, each as it is written. */
export function parametersIn(path: string): readonly string[] {
  const query = path.indexOf('?')
  if (query < 0) return []
  return path
    .slice(query + 1)
    .split('&')
    .filter((parameter) => parameter !== '')
}

/** Name of one, in lower case, without the dollar that Google's may have in front. */
export function parameterName(parameter: string): string {
  const [name = ''] = parameter.split('=')
  try {
    return decodeURIComponent(name).replace(/^\$/, '').toLowerCase()
  } catch {
    return name // nobody reads it
  }
}
