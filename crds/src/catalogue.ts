export interface Catalogue { readonly version: string; readonly date: string }
export function loadCatalogue(): Catalogue { return { version: 'temp', date: '2026-01-01' } }
