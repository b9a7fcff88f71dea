/** The object that structured output is asked for. */
import * as z from 'zod'

export const PLACE = z.object({ place: z.string(), days: z.int() })
