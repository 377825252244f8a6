// jobtastic_ext, MIT. Made of client/
const own=(kind,name)=>
Object.getOwnPropertyDescriptor(globalThis[kind]?.prototype??{},name);
const create=(tag)=>own('Document','createElement').value.call(globalThis.document,tag);
function isHidden(){const page=globalThis.document;
const said=page?.hidden;
return typeof said==='boolean'?said:!!own('Document','hidden')?.get.call(page)}
function listen(target,name,handler,signal){const add=globalThis.Document?EventTarget.prototype.addEventListener:target?.addEventListener;
add?.call(target,name,handler,{signal})}
const css=`
:host{--_accent:var(--jobtastic-accent,#2563eb);--_success:var(--jobtastic-success,#15713a);--_failure:var(--jobtastic-failure,#c81e1e);--_track:var(--jobtastic-track,color-mix(in srgb,currentColor 13%,transparent));--_muted:var(--jobtastic-muted,color-mix(in srgb,currentColor 78%,transparent));--_tone:var(--_accent);display:block;max-inline-size:40rem;line-height:1.45}@supports (color:light-dark(red,red)){:host{--_accent:var(--jobtastic-accent,light-dark(#2563eb,#6ea8ff));--_success:var(--jobtastic-success,light-dark(#15713a,#4ade80));--_failure:var(--jobtastic-failure,light-dark(#c81e1e,#ff8a80))}}:host([hidden]){display:none}:host([state=success]){--_tone:var(--_success)}:host([state=failure]){--_tone:var(--_failure)}:host([state=revoked]),:host([state=error]){--_tone:color-mix(in srgb,currentColor 50%,transparent)}[part=base]{display:grid;grid-template:"head figure side" "track track side" "text text side" "foot foot foot" / 1fr auto auto;row-gap:.4em;align-items:center}:host(:not([label])) [part=base]{grid-template-areas:"text figure side" "track track side" "foot foot side"}:host(:not([label])) [part=label]{display:none}slot{grid-area:side}::slotted(*){margin-inline-start:1em}[part=label]{grid-area:head;font-weight:600}[part=figure]{grid-area:figure;margin-inline-start:1em;font-weight:600;font-variant-numeric:tabular-nums;unicode-bidi:plaintext}[part=text]{grid-area:text;color:var(--_muted)}[part=text]::first-letter{text-transform:uppercase}:host([state=success]) [part=text],:host([state=failure]) [part=text]{color:var(--_tone);font-weight:600}:host([state=success]) [part=text]::before{content:"✓ " / ""}:host([state=failure]) [part=text]::before{content:"✕ " / ""}[part=track]{grid-area:track;block-size:var(--jobtastic-height,.55rem);border-radius:var(--jobtastic-radius,1rem);background:var(--_track);overflow:hidden}[part=fill]{block-size:100%;inline-size:0;border-radius:inherit;background:var(--_tone);transition:inline-size .5s ease-out,background-color .3s}:host([unknown]) [part=fill],:host([state=failure]) [part=fill]{inline-size:100%}:host([unknown]) [part=fill]{background:linear-gradient(90deg,transparent,var(--_tone),transparent) 0 / 45% 100% no-repeat;animation:pass 1.8s ease-in-out infinite}:host(:dir(rtl)) [part=fill]{animation-direction:reverse}@keyframes pass{from{background-position:-70% 0}to{background-position:170% 0}}[part=foot]{grid-area:foot;display:flex;gap:1em;min-block-size:1.45em;font-size:.9em;color:var(--_muted)}[part=message]{margin-inline-end:auto}[part=detail]{flex:none;max-inline-size:100%;font-variant-numeric:tabular-nums}[part=detail]:empty{display:none}[part=message],[part=detail]{unicode-bidi:plaintext;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}:host([state=failure]) [part=message]{overflow-wrap:anywhere;white-space:pre-line}:host([state=failure]) [part=message]:not(:empty){margin:.35em 0 0;flex:1;padding:.6em .85em;color:inherit;background:color-mix(in srgb,var(--_tone) 10%,transparent);border-inline-start:3px solid var(--_tone);border-radius:.3em}[part=live]{position:absolute;inline-size:1px;block-size:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}:host([unconfirmed]) [part=fill],:host([state=error]) [part=fill]{background:repeating-linear-gradient(90deg,var(--_tone) 0 .25rem,transparent .25rem .5rem);animation:none}:host([unconfirmed]) [part=figure]{color:var(--_muted);font-weight:400}@media (prefers-reduced-motion:reduce){[part=fill]{transition:none}:host([unknown]) [part=fill]{animation:none;opacity:.5;background:repeating-linear-gradient(135deg,var(--_tone) 0 .4rem,transparent .4rem .8rem)}}@media (forced-colors:active){[part=track]{border:1px solid CanvasText}[part=fill]{background:Highlight;forced-color-adjust:none}}`;
const IDLE=45000;
function eventsOf(url){const events=String(url).replace(/\/status(\/?(?:[?#].*)?)$/,'/events$1');
return events===String(url)?undefined:events}
async function readEvents(body,alive,take){const reader=body.getReader();
const decoder=new TextDecoder();
let buffer='';
try{for(;;){const{done,value}=await reader.read();
if(done)return;
alive(IDLE);
const text=decoder.decode(value,{stream:true});
buffer+=text;
if(!/[\r\n]/.test(text))continue;
const blocks=buffer.split(/\r?\n\r?\n/);
buffer=blocks.pop();
for(const block of blocks){const data=block.split(/\r?\n/).filter((line)=>line.startsWith('data:'))
.map((line)=>line.slice(5)).join('\n');
if(data&&take(JSON.parse(data)))return}}}finally{reader.cancel().catch(()=>{})}}
const PATIENCE=4;
const LONGEST=30000;
const HIDDEN=15000;
const TIMEOUT=20000;
const BODY=300000;
const DOUBT=10000;
const LOST=15000;
const MOURNED=3600000;
const STREAMS=2;
const FINAL=/^(SUCCESS|FAILURE|REVOKED)$/;
const WAITING=/^(PENDING|RECEIVED|RETRY)$/;
const PASSING=[408,425,429];
const unstreamed=new Set();
let streams=0;
const seconds=(value)=>Math.min(Math.max(Number(value)||0,0),300)*1000;
function failed(message,response){const after=response?.headers.get('Retry-After');
return Object.assign(new Error(message),{status:response?.status??0,wait:seconds(after)})}
function together(tasks){const left=tasks.filter(({status})=>!FINAL.test(status));
const lost=!left.length&&tasks.some((task)=>task.lost);
const soon=left.map((task)=>task.retry_after??2);
return{status:left.length?'PROGRESS':lost?'FAILURE':'SUCCESS',lost,result:tasks,retry_after:Math.min(...soon)}}
function taskOf(data){if(data?.tasks)return together(data.tasks);
if(!data?.task?.status)throw failed('No task in the answer');
return data.task}
const watchTask=(url,options={})=>new Promise((resolve,reject)=>{watch(url,options,resolve).then(resolve,reject)});
async function watch(url,options,resolve){const{signal,interval,onPending,onProgress,onSuccess,onFailure,onError,onUnconfirmed}=options;
const send=options.fetch??((...request)=>fetch(...request));
const events=options.events??eventsOf(url);
const place=events&&events.replace(/[?#].*/,'').replace(/[^/]+\/events\/?$/,'');
const begun=Date.now();
let last,etag,abort,wake,lost,broken=0,failures=0;
let away=false,streaming=false,unsure=false;
const over=()=>!!signal?.aborted;
function tell(callback,value){if(over())return;
try{callback?.(value)}catch(error){(globalThis.reportError??console.error)(error)}}
function deliver(task){const known=last?.lost&&task.lost;
last=task;
unsure=false;
if(known)return;
lost=task.lost?Date.now():undefined;
const{status}=task;
if(status==='SUCCESS')tell(onSuccess,task);
else if(FINAL.test(status))tell(onFailure,task);
else tell(WAITING.test(status)?onPending:onProgress,task)}
function doubt(){if(unsure||!last||last.lost)return;
unsure=true;
tell(onUnconfirmed,last)}
async function request(target,headers,limit,read){const controller=new AbortController();
let timer,silence;
const still=()=>{clearTimeout(timer);clearTimeout(silence)};
const alive=(ms)=>{still();
timer=setTimeout(()=>controller.abort(),ms);
silence=setTimeout(doubt,Math.max(ms/2,DOUBT))};
abort=()=>controller.abort();
alive(limit);
try{const init={headers,cache:'no-store',signal:controller.signal};
return await read(await send(target,init),alive)}finally{still();
abort=undefined}}
async function ask(){const headers={Accept:'application/json'};
if(etag)headers['If-None-Match']=etag;
deliver(await request(url,headers,TIMEOUT,async(response,alive)=>{alive(BODY);
if(last&&response.status===304)return last;
if(!response.ok)throw failed(`HTTP status ${response.status}`,response);
etag=response.headers.get('ETag');
return taskOf(await response.json())}))}
async function follow(){streams++;
streaming=true;
broken++;
try{await request(events,{Accept:'text/event-stream'},8000,async(response,alive)=>{const streamed=response.headers.get('Content-Type')?.startsWith('text/event-stream');
if(response.ok?!streamed:[404,405,501].includes(response.status)){unstreamed.add(place)}else if(response.ok){const heard=(ms)=>{alive(ms);
if(unsure)deliver(last)};
await readEvents(response.body,heard,(data)=>{deliver(taskOf(data));
etag=undefined;
broken=0;
return FINAL.test(last.status)})}})}catch(error){if(over()||away||isHidden())broken=0;
else if(broken&&error.name==='AbortError')unstreamed.add(place)}finally{streams--;
streaming=false}}
const streamable=()=>
events&&!unstreamed.has(place)&&broken<3&&!isHidden()&&streams<STREAMS;
function pause(error,soon){let least=0,ms;
if(soon){ms=1000*Math.random()}else if(error){least=error.wait??0;
ms=Math.min(500*2**failures,LONGEST)*(0.5+Math.random()/2)}else{least=last.lost?LOST:seconds(last.retry_after);
ms=interval??(least||Math.min(Math.max((Date.now()-begun)/10,500),5000))}
ms=Math.max(ms,least,isHidden()?HIDDEN:250);
return ms*(1+Math.random()/5)}
function nap(ms){let timer;
return new Promise((resolve)=>{wake=resolve;
if(ms!==undefined)timer=setTimeout(resolve,ms);
if(over())resolve()}).finally(()=>clearTimeout(timer))}
const listeners=new AbortController();
const on=(target,name,handler)=>listen(target,name,handler,listeners.signal);
const stop=()=>{abort?.();wake?.()};
signal?.addEventListener('abort',stop,{signal:listeners.signal});
on(globalThis,'online',()=>wake?.());
on(globalThis,'pagehide',()=>{away=true;stop()});
on(globalThis,'pageshow',()=>{away=false;wake?.()});
on(globalThis.document,'visibilitychange',()=>{if(!isHidden())wake?.();else if(streaming)abort?.()});
try{while(!over()){if(away){await nap();continue}
let problem,soon;
try{await ask();
failures=0;
if(!FINAL.test(last.status)&&streamable()){await follow();
soon=!broken}}catch(error){if(over()||away)continue;
problem=error;
failures++;
const{status=0}=error;
const final=failures>=PATIENCE&&status>=400&&status<500&&
!PASSING.includes(status);
if(failures===2)doubt();
if(!last?.lost&&(final||failures===PATIENCE))tell(onError,Object.assign(error,{status,final}));
if(final)return}
if(!over()&&FINAL.test(last?.status)){if(!(Date.now()-lost<MOURNED))return last;
resolve(last)}
if(!away)await nap(pause(problem,soon))}}finally{listeners.abort()}}
const strings={lang:'en',label:'Progress',pending:'Waiting for your task to begin',ahead:'Waiting for your task to begin, {ahead} ahead of it',begun:'Your task has begun',working:'Working on it',left:'about {time} left',most:'less than {time} left',moments:'a few seconds left',finishing:'Almost done',estimated:'~{percent}',likely:'Most likely {time}',counted:'{completed} of {total}',elapsed:'{time} so far',attempt:'attempt {attempt}',retry:'That did not work. Trying again soon',again:'That did not work. Trying again in {time}',success:'Done',took:'Done in {time}',failure:'Your task failed',quote:'If you ask for help, please quote {id}',revoked:'Your task was cancelled',lost:'No news of your task since {time}. It may be lost: you can start it again',unconfirmed:'No news at the moment. Still trying',error:'No connection to the server. Still trying',gone:'The state of your task cannot be read'};
const UNITS=[
[55,'second',1,5],[3300,'minute',60,1],[36*3600,'hour',3600,0.5],[Infinity,'day',86400,0.5]];
const known=(value)=>typeof value==='number'&&isFinite(value)&&value>=0;
const fill=(text,values)=>text.replace(/\{(\w+)\}/g,(_,name)=>values[name]);
const WIDE=1.5;
const VAGUE=4;
const SLACK=1.15;
function unitOf(seconds,lang,style='long'){const [,unit,length,step]=UNITS.find(([limit])=>seconds<limit);
const format=new Intl.NumberFormat(lang,{style:'unit',unit,unitDisplay:style});
return{length,step,format}}
function span(seconds,lang,style){const{length,step,format}=unitOf(seconds,lang,style);
const fine=Math.min(step,1);
return format.format(Math.max(Math.round(seconds/length/fine),1)*fine)}
function around(low,high,lang){const{length,step,format}=unitOf(high,lang);
const round=(value,how)=>{const coarse=value<10*length?step:Math.max(step,5);
return how(value/length/coarse)*coarse};
const [from,to]=[round(low,Math.floor),round(high,Math.ceil)];
const range=from&&format.formatRange?format.formatRange(from,to):'';
return{from:from*length,to:to*length,range,end:format.format(to)}}
function timeLeft(result,table,before={}){const{time_remaining:time,time_remaining_low:least,time_remaining_high:most}=result;
if(!known(time))return{text:table.working};
const sure=known(least)&&known(most)&&most>0;
const [low,high]=sure?[Math.min(least,time),Math.max(most,time)]:[time,time];
const said=around(low,high,table.lang);
const title=sure&&time?fill(table.likely,{time:said.range||`0–${said.end}`}):'';
if(time<8)return{kind:'moments',text:table.moments,title};
const bound=(limit,...kinds)=>
before.kind?kinds.includes(before.kind)?limit/SLACK:limit*SLACK:limit;
let words;
if(high<low*bound(WIDE,'range','most')){const{length,step,format}=unitOf(time,table.lang);
const value=Math.max(Math.round(time/length/step),1)*step;
const from=Math.max(value-0.75*step,0.75*value)*length;
words={kind:'about',from,to:(value+0.75*step)*length};
words.text=fill(table.left,{time:format.format(value)})}else if(said.range&&high<=low*bound(VAGUE,'most')){words={kind:'range',...said,text:fill(table.left,{time:said.range})}}else{words={kind:'most',...said,from:0,text:fill(table.most,{time:said.end})}}
const steady=before.kind===words.kind&&before.from<=time&&time<=before.to
&&high<=before.to*SLACK&&(before.to<=words.to*1.4||words.kind==='about');
return{...steady?before:words,title}}
function waiting(task,table){const{ahead}=task.queue??{};
return known(ahead)&&ahead>0?fill(table.ahead,{ahead}):table.pending}
function details(task,table){const{completed,total,elapsed}=Object(task.result);
const number=new Intl.NumberFormat(table.lang);
const attempt=task.attempt??task.result?.attempt;
return [
attempt>1&&fill(table.attempt,{attempt:number.format(attempt)}),known(completed)&&known(total)&&total>0&&total!==100&&fill(table.counted,{completed:number.format(completed),total:number.format(total)}),known(elapsed)&&elapsed>=1&&fill(table.elapsed,{time:span(elapsed,table.lang,'short')})].filter(Boolean).join(' · ')}
function describe(task,table=strings,before={}){const{status,result}=task;
const is=(state,text,percent=null,message='',detail='')=>
({state,percent,figure:'',text,message,detail,title:'',begun:before.begun});
if(status==='SUCCESS'){const took=task.ended-before.begun;
return is('success',known(took)?fill(table.took,{time:span(took,table.lang)}):table.success,100)}
if(task.lost){const clock=new Intl.DateTimeFormat(table.lang,{timeStyle:'short'});
return is('failure',fill(table.lost,{time:clock.format(task.heard*1000||undefined)}))}
if(status==='FAILURE'){const message=task.private?fill(table.quote,task):result;
return is('failure',table.failure,null,typeof message==='string'?message:'')}
if(status==='REVOKED')return is('revoked',table.revoked);
if(status==='RETRY'){const time=known(task.retry_in)&&span(task.retry_in,table.lang);
const text=time?fill(table.again,{time}):table.retry;
return is('retry',text,null,'',details({attempt:task.attempt},table))}
if(status==='PENDING'||status==='RECEIVED')return is('pending',waiting(task,table));
const seen=is('progress',table.working,null,result?.message??'',details(task,table));
seen.begun=result?.begun??before.begun;
if(!known(result?.progress_percent))return seen;
const percent=Math.min(result.progress_percent,100);
const figure=new Intl.NumberFormat(table.lang,{style:'percent'})
.format(Math.floor(percent)/100);
seen.percent=percent;
seen.figure=result.estimated?fill(table.estimated,{percent:figure}):figure;
seen.words=timeLeft(result,table,before.words);
if(percent===100)seen.text=table.finishing;
else if(percent===0&&!known(result.time_remaining))seen.text=table.begun;
else [seen.text,seen.title]=[seen.words.text,seen.words.title??''];
return seen}
const MESSAGE=1000;
const ENDED=/^(success|failure|revoked)$/;
const EVENTS={progress:'progress',success:'success',failure:'failure',revoked:'failure'};
let sheet;
function build(root){if(!sheet){sheet=new CSSStyleSheet();
sheet.replaceSync(css)}
root.adoptedStyleSheets=[sheet];
const parts={};
const add=(parent,name)=>{const part=parts[name]=create('div');
part.part=name;
parent.append(part);
return part};
const base=add(root,'base');
add(base,'label');
add(base,'figure').ariaHidden=true;
const track=add(base,'track');
track.role='progressbar';
track.ariaValueMin=0;
track.ariaValueMax=100;
add(track,'fill');
add(base,'text');
const foot=add(base,'foot');
add(foot,'message');
add(foot,'detail');
const beside=create('slot');
beside.name='beside';
base.append(beside);
add(root,'live').role='status';
return parts}
class JobtasticProgress extends(globalThis.HTMLElement??class{}){static observedAttributes=['src','events','label','strings'];
#parts;
#watch;
#seen;
#strings={};
task;
get state(){return this.getAttribute('state')??''}
get percent(){return this.#seen?.percent??null}
get src(){return this.getAttribute('src')??''}
set src(url){this.setAttribute('src',url)}
get strings(){return this.#strings}
set strings(table){this.#strings=table??{};
delete this.#seen?.words;
if(this.task)this.show(this.task);
this.#name()}
fetch(url,init){return fetch(url,init)}
show(task){this.task=task;
this.#show(describe(task,this.#table(),this.#seen));
if(task.unconfirmed)this.doubt()}
tell(task){this.show(task);
const event=EVENTS[this.state];
if(event)this.#emit(event,task)}
doubt(){if(!this.#seen)return;
const text=this.#table().unconfirmed;
this.#show({...this.#seen,state:this.state,text,title:''});
this.toggleAttribute('unconfirmed',true)}
fail(error){const{error:trying,gone}=this.#table();
this.#show({figure:'',...this.#seen,state:'error',text:error.final?gone:trying,title:''})}
connectedCallback(){this.#build();
if(Object.hasOwn(this,'strings')){const table=this.strings;
delete this.strings;
this.strings=table}
if(!ENDED.test(this.state)||this.task?.lost)this.#start()}
disconnectedCallback(){this.#watch?.abort()}
attributeChangedCallback(name,before,now){if(name==='strings'){try{this.strings=JSON.parse(now||'{}')}catch(error){console.error('jobtastic-progress: strings is not JSON',error)}}
if(!this.isConnected||!this.#parts||before===now)return;
if(name==='label')this.#name();
else if(name!=='strings')this.#start()}
#emit(event,detail){this.dispatchEvent(new CustomEvent(event,{detail}))}
#table(){return{...strings,...this.#strings}}
#build(){if(this.#parts)return;
this.#parts=build(this.attachShadow({mode:'open'}));
this.#name()}
#name(){if(!this.#parts)return;
const label=this.getAttribute('label')??'';
this.#parts.label.textContent=label;
this.#parts.track.ariaLabel=label||this.#table().label}
#start(){this.#watch?.abort();
const{src}=this;
if(!src)return;
this.#seen=undefined;
this.show({status:'PENDING'});
const watch=this.#watch=new AbortController();
const tell=(task)=>this.tell(task);
watchTask(src,{signal:watch.signal,events:this.getAttribute('events')??undefined,fetch:(...request)=>this.fetch(...request),onPending:tell,onProgress:tell,onSuccess:tell,onFailure:tell,onUnconfirmed:()=>this.doubt(),onError:(error)=>{this.fail(error);
this.#emit('error',error)}})}
#show(seen){this.#build();
const{state,percent,figure,text,message:said,detail='',title=''}=seen;
const message=typeof said==='string'?said:'';
const{track,fill,live,...parts}=this.#parts;
const ended=/^(failure|revoked|error)$/.test(state);
const reached=percent??(ended?this.#seen?.percent??null:null);
const moved=this.state!==state;
this.#seen={...seen,percent:reached};
this.setAttribute('state',state);
this.removeAttribute('unconfirmed');
this.toggleAttribute('unknown',reached===null&&!ended);
fill.style.inlineSize=reached===null?'':`${reached}%`;
parts.figure.textContent=figure;
parts.text.textContent=text;
parts.text.title=title;
parts.detail.textContent=detail;
parts.message.textContent=message.length>MESSAGE?`${message.slice(0, MESSAGE)}…`:message;
track.ariaValueNow=reached===null?null:Math.floor(reached);
parts.message.title=ended?'':message;
track.ariaValueText=figure?`${figure}, ${text}`:text;
if(moved)live.textContent=message&&ended?`${text}: ${message}`:text}}
class JobtasticList extends(globalThis.HTMLElement??class{}){static observedAttributes=['src'];
#watch;
#bars=new Map();
fetch(url,init){return fetch(url,init)}
connectedCallback(){this.#start()}
disconnectedCallback(){this.#watch?.abort()}
attributeChangedCallback(name,before,now){if(this.isConnected&&this.#watch&&before!==now)this.#start()}
#start(){this.#watch?.abort();
const{signal}=this.#watch=new AbortController();
const src=this.getAttribute('src');
if(!src)return;
const running=(tell)=>this.#bars.forEach(([bar])=>ENDED.test(bar.state)||tell(bar));
const show=({result})=>result.forEach((task)=>this.#show(task));
watchTask(src,{signal,events:false,fetch:(...request)=>this.fetch(...request),onProgress:show,onSuccess:show,onFailure:show,onUnconfirmed:()=>running((bar)=>bar.doubt()),onError:(error)=>running((bar)=>bar.fail(error))})}
#show(task){let [bar,before]=this.#bars.get(task.id)??[];
if(!bar){bar=[...this.children].find((child)=>child.getAttribute('task')===task.id);
if(!bar)this.append(bar=create('jobtastic-progress'))}
const now=JSON.stringify(task);
this.#bars.set(task.id,[bar,now]);
if(before===now)bar.show(task);
else bar.tell(task)}}
if(globalThis.customElements&&!customElements.get('jobtastic-progress')){customElements.define('jobtastic-progress',JobtasticProgress);
customElements.define('jobtastic-list',JobtasticList)}
export{JobtasticList,JobtasticProgress,strings,watchTask};
