"""Calls models by the SDKs for Python, as the matrix asks: one JSON object a line in, one a line out, in any order.

In:  {"id", "sdk", "way", "address" or "environment", "headers", "model", "history": [{"role", "text"}], "question",
      "tool": {"name", "description", "parameters", "result"}}, and for LangChain perhaps "streamUsage", "method", for Anthropic "runs",
      of a plain call perhaps "callHeaders"
Out: {"id", "answer": {"text", "usage": {"input", "output"}, "calls": [{"name", "input"}], "object"}}
  or {"id", "caught": {"name", "status", "code", "message"}}
The first line out is {"ready": true}. It ends with its standard input.
"""

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import anthropic
import openai
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

CALLS_AT_ONCE = 6
# No tool loop here is longer.
STEPS_MAX = 4
CLAUDE_MAX_TOKENS = 2048
LOOPS = ("tools", "streamedTools")


class Place(BaseModel):
    """Where an order is, and for how long."""

    place: str
    days: int


def answer(text, usage, calls=(), parsed=None):
    return {"text": text or "", "usage": usage, "calls": list(calls), "object": parsed}


def loop(step):
    """Calls `step` until an answer makes no calls; the calls of all of them go with the last."""
    calls = []
    for _ in range(STEPS_MAX):
        said = step()
        calls += said["calls"]
        if not said["calls"]:
            return {**said, "calls": calls}
    raise RuntimeError("the tool loop has no end")


clients = {}
making = threading.Lock()


def shared(kind, ask, make):
    """The client of this kind for this address, with the headers of one conversation: making one takes longer than a call."""
    if ask["address"] is None:
        return make().with_options(default_headers=ask["headers"])
    with making:
        client = clients.get((kind, ask["address"])) or clients.setdefault((kind, ask["address"]), make())
    return client.with_options(default_headers=ask["headers"])


def of_call(ask):
    """What is sent with this one call, beside what its client sends with each."""
    return {"extra_headers": ask["callHeaders"]} if "callHeaders" in ask else {}


# openai


def openai_client(ask):
    where = {"base_url": ask["address"]} if ask["address"] else {}
    return shared("openai", ask, lambda: openai.OpenAI(api_key="test", **where))


def azure_client(ask):
    where = {"azure_endpoint": ask["address"]} if ask["address"] else {}
    return shared("azure", ask, lambda: openai.AzureOpenAI(api_key="test", api_version="2024-10-21", **where))


def messages_of(ask):
    return [{"role": said["role"], "content": said["text"]} for said in ask["history"]] + [{"role": "user", "content": ask["question"]}]


def chat(client, ask):
    messages = messages_of(ask)
    tool = {"type": "function", "function": {**described(ask), "parameters": ask["tool"]["parameters"], "strict": True}}
    create = lambda **more: client.chat.completions.create(model=ask["model"], messages=messages, **more)
    way = ask["way"]
    if way == "plain":
        return of_completion(create(**of_call(ask)))
    if way == "streamed":
        heard = ""
        with client.chat.completions.stream(model=ask["model"], messages=messages, stream_options={"include_usage": True}) as stream:
            for event in stream:
                if event.type == "content.delta":
                    heard += event.delta
            return {**of_completion(stream.get_final_completion()), "text": heard}
    if way in LOOPS:

        def step():
            if way == "tools":
                completion = create(tools=[tool])
            else:
                asked = {"model": ask["model"], "messages": messages, "stream_options": {"include_usage": True}}
                with client.chat.completions.stream(tools=[tool], **asked) as stream:
                    completion = stream.get_final_completion()
            made = completion.choices[0].message.tool_calls or []
            # Without what the helpers for streams add of their own, which the API does not take back.
            calls = [
                {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": call.function.arguments}}
                for call in made
            ]
            messages.append({"role": "assistant", "content": None, "tool_calls": calls})
            for call in made:
                messages.append({"role": "tool", "tool_call_id": call.id, "content": ask["tool"]["result"]})
            return of_completion(completion)

        return loop(step)
    if way == "forced":
        return of_completion(create(tools=[tool], tool_choice="required"))
    completion = client.chat.completions.parse(model=ask["model"], messages=messages, response_format=Place)
    parsed = completion.choices[0].message.parsed
    return {**of_completion(completion), "object": parsed and parsed.model_dump()}


def of_completion(completion):
    message = completion.choices[0].message
    calls = [{"name": call.function.name, "input": json.loads(call.function.arguments)} for call in message.tool_calls or []]
    usage = completion.usage and {"input": completion.usage.prompt_tokens, "output": completion.usage.completion_tokens}
    return answer(message.content, usage, calls)


def responses(client, ask):
    tool = {"type": "function", **described(ask), "parameters": ask["tool"]["parameters"], "strict": True}
    way = ask["way"]
    asked = {"model": ask["model"], "input": messages_of(ask)}
    if way == "plain":
        return of_response(client.responses.create(**asked, **of_call(ask)))
    if way == "streamed":
        heard = ""
        with client.responses.stream(**asked) as stream:
            for event in stream:
                if event.type == "response.output_text.delta":
                    heard += event.delta
            return {**of_response(stream.get_final_response()), "text": heard}
    if way in LOOPS:

        def step():
            if way == "tools":
                response = client.responses.create(tools=[tool], **asked)
            else:
                with client.responses.stream(tools=[tool], **asked) as stream:
                    response = stream.get_final_response()
            asked["previous_response_id"] = response.id
            asked["input"] = [
                {"type": "function_call_output", "call_id": item.call_id, "output": ask["tool"]["result"]}
                for item in response.output
                if item.type == "function_call"
            ]
            return of_response(response)

        return loop(step)
    if way == "forced":
        return of_response(client.responses.create(tools=[tool], tool_choice="required", **asked))
    response = client.responses.parse(text_format=Place, **asked)
    return {**of_response(response), "object": response.output_parsed and response.output_parsed.model_dump()}


def of_response(response):
    calls = [{"name": item.name, "input": json.loads(item.arguments)} for item in response.output if item.type == "function_call"]
    usage = response.usage and {"input": response.usage.input_tokens, "output": response.usage.output_tokens}
    return answer(response.output_text, usage, calls)


# anthropic


def anthropic_client(ask):
    where = {"base_url": ask["address"]} if ask["address"] else {}
    return shared("anthropic", ask, lambda: anthropic.Anthropic(api_key="test", **where))


def claude(client, ask):
    messages = messages_of(ask)
    tool = {**described(ask), "input_schema": ask["tool"]["parameters"]}
    asked = {"model": ask["model"], "max_tokens": CLAUDE_MAX_TOKENS, "messages": messages}
    way = ask["way"]
    if way == "plain":
        return of_message(client.messages.create(**asked, **of_call(ask)))
    if way == "streamed":
        with client.messages.stream(**asked) as stream:
            heard = "".join(stream.text_stream)
            return {**of_message(stream.get_final_message()), "text": heard}
    if "runs" in ask:
        look = anthropic.beta_tool(lambda order: ask["tool"]["result"], input_schema=tool["input_schema"], **described(ask))
        return of_message(client.beta.messages.tool_runner(tools=[look], max_iterations=ask["runs"], **asked).until_done())
    if way in LOOPS:

        def step():
            if way == "tools":
                message = client.messages.create(tools=[tool], **asked)
            else:
                with client.messages.stream(tools=[tool], **asked) as stream:
                    message = stream.get_final_message()
            messages.append({"role": "assistant", "content": message.content})
            results = [
                {"type": "tool_result", "tool_use_id": block.id, "content": ask["tool"]["result"]}
                for block in message.content
                if block.type == "tool_use"
            ]
            messages.append({"role": "user", "content": results})
            return of_message(message)

        return loop(step)
    if way == "forced":
        return of_message(client.messages.create(tools=[tool], tool_choice={"type": "any"}, **asked))
    message = client.messages.parse(output_format=Place, **asked)
    return {**of_message(message), "object": message.parsed_output and message.parsed_output.model_dump()}


def of_message(message):
    usage = message.usage
    cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
    text = "".join(block.text for block in message.content if block.type == "text")
    calls = [{"name": block.name, "input": block.input} for block in message.content if block.type == "tool_use"]
    return answer(text, {"input": usage.input_tokens + cached, "output": usage.output_tokens}, calls)


# LangChain


def langchain_openai(ask):
    where = {"base_url": ask["address"]} if ask["address"] else {}
    # Beside an address it must be told to ask for the usage of streams.
    return ChatOpenAI(model=ask["model"], api_key="test", default_headers=ask["headers"], stream_usage=ask.get("streamUsage", True), **where)


def langchain_anthropic(ask):
    where = {"base_url": ask["address"]} if ask["address"] else {}
    return ChatAnthropic(model=ask["model"], api_key="test", default_headers=ask["headers"], **where)


def langchain(model, ask):
    messages = [(HumanMessage if said["role"] == "user" else AIMessage)(said["text"]) for said in ask["history"]]
    messages.append(HumanMessage(ask["question"]))
    tool = {**described(ask), "parameters": ask["tool"]["parameters"]}
    way = ask["way"]
    if way == "plain":
        return of_langchain(model.invoke(messages, **of_call(ask)))
    if way == "streamed":
        return of_langchain(heard(model.stream(messages)))
    if way in LOOPS:
        bound = model.bind_tools([tool])

        def step():
            message = bound.invoke(messages) if way == "tools" else heard(bound.stream(messages))
            messages.append(message)
            for call in message.tool_calls:
                messages.append(ToolMessage(ask["tool"]["result"], tool_call_id=call["id"]))
            return of_langchain(message)

        return loop(step)
    if way == "forced":
        return of_langchain(model.bind_tools([tool], tool_choice="any").invoke(messages))
    method = {"method": ask["method"]} if "method" in ask else {}
    said = model.with_structured_output(Place, include_raw=True, **method).invoke(messages)
    return {**of_langchain(said["raw"]), "calls": [], "object": said["parsed"] and said["parsed"].model_dump()}


def heard(chunks):
    whole = None
    for chunk in chunks:
        whole = chunk if whole is None else whole + chunk
    return whole


def of_langchain(message):
    usage = message.usage_metadata and {"input": message.usage_metadata["input_tokens"], "output": message.usage_metadata["output_tokens"]}
    calls = [{"name": call["name"], "input": call["args"]} for call in message.tool_calls]
    return answer(message.text, usage, calls)


def described(ask):
    return {"name": ask["tool"]["name"], "description": ask["tool"]["description"]}


SDKS = {
    "openai-chat": lambda ask: chat(openai_client(ask), ask),
    "openai-responses": lambda ask: responses(openai_client(ask), ask),
    "azure": lambda ask: chat(azure_client(ask), ask),
    "anthropic": lambda ask: claude(anthropic_client(ask), ask),
    "langchain-openai": lambda ask: langchain(langchain_openai(ask), ask),
    "langchain-anthropic": lambda ask: langchain(langchain_anthropic(ask), ask),
}


def caught(error):
    """What an app sees of an exception."""
    body = getattr(error, "body", None)
    code = getattr(error, "code", None)
    if code is None and isinstance(body, dict):
        inner = body.get("error")
        details = inner.get("details") if isinstance(inner, dict) else None
        code = details.get("error_code") if isinstance(details, dict) else None
    return {"name": type(error).__name__, "status": getattr(error, "status_code", None), "code": code, "message": str(error)}


LED = ("OPENAI_", "AZURE_OPENAI_", "ANTHROPIC_")
writing = threading.Lock()


def run(ask):
    try:
        if ask.get("environment"):
            for name in [name for name in os.environ if name.startswith(LED)]:
                del os.environ[name]
            os.environ.update(ask["environment"])
        said = {"id": ask["id"], "answer": SDKS[ask["sdk"]](ask)}
    except Exception as error:  # all that an app could catch
        said = {"id": ask["id"], "caught": caught(error)}
    write(said)


def write(value):
    with writing:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    write({"ready": True})
    with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
        for line in sys.stdin:
            pool.submit(run, json.loads(line))
